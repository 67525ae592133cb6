import java.time.Duration;
import java.util.*;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;

/** Groups of the consumer protocol (KIP-848) as Apache Kafka's Java client joins them.
 *  Usage: ConsumerGroups.java SCENARIO BOOTSTRAP NAME; ends with "ok" or an exception. */
public class ConsumerGroups {
    static String servers, name;
    static final long LIMIT_MS = 60000;

    static Properties common() {
        Properties p = new Properties();
        p.put("bootstrap.servers", servers);
        p.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        p.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        p.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        p.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        return p;
    }

    static KafkaConsumer<String, String> member(String protocol, String... more) {
        Properties p = common();
        p.put("group.id", name);
        p.put("group.protocol", protocol);
        p.put("auto.offset.reset", "earliest");
        p.put("metadata.max.age.ms", "1000");
        for (int i = 0; i < more.length; i += 2)
            p.put(more[i], more[i + 1]);
        return new KafkaConsumer<>(p);
    }

    static void produce(String topic, int first, int last) throws Exception {
        try (KafkaProducer<String, String> p = new KafkaProducer<>(common())) {
            for (int i = first; i < last; i++)
                p.send(new ProducerRecord<>(topic, "k" + i, "v" + i));
            p.flush();
        }
    }

    static void create(Admin admin, String topic, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
    }

    static Set<String> got = new HashSet<>();

    static void until(String what, BooleanSupplier done, List<KafkaConsumer<String, String>> members) {
        long end = System.currentTimeMillis() + LIMIT_MS;
        while (!done.getAsBoolean()) {
            if (System.currentTimeMillis() > end)
                throw new IllegalStateException("not in time: " + what);
            for (KafkaConsumer<String, String> m : members)
                m.poll(Duration.ofMillis(50)).forEach(r -> got.add(r.value()));
        }
    }

    static void check(boolean holds, String what) {
        if (!holds)
            throw new IllegalStateException(what);
    }

    static void share(Admin admin) throws Exception {
        create(admin, name, 4);
        produce(name, 0, 40);
        var a = member("consumer");
        var b = member("consumer");
        a.subscribe(List.of(name));
        b.subscribe(List.of(name));
        until("two each", () -> a.assignment().size() == 2 && b.assignment().size() == 2, List.of(a, b));
        until("all is read", () -> got.size() == 40, List.of(a, b));
        var d = admin.describeConsumerGroups(List.of(name)).all().get().get(name);
        check(d.type() == GroupType.CONSUMER && d.groupState() == GroupState.STABLE, "state " + d);
        check(d.members().size() == 2 && d.partitionAssignor().equals("uniform"), "members " + d);
        check(d.groupEpoch().get().equals(d.targetAssignmentEpoch().get()), "epochs " + d);
        a.commitSync();
        b.commitSync();
        b.close();
        until("one has all", () -> a.assignment().size() == 4, List.of(a));
        produce(name, 40, 60);
        until("the rest is read", () -> got.size() == 60, List.of(a));
        a.commitSync();
        a.close();
        long sum = admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata().get().values().stream()
                .mapToLong(OffsetAndMetadata::offset).sum();
        check(sum == 60, "committed " + sum);
    }

    static void regex(Admin admin) throws Exception {
        create(admin, name + ".one", 2);
        produce(name + ".one", 0, 10);
        var a = member("consumer");
        a.subscribe(new SubscriptionPattern(name + "\\.(one|two)"));
        until("one topic", () -> a.assignment().size() == 2 && got.size() == 10, List.of(a));
        create(admin, name + ".two", 3);
        create(admin, name + ".three", 3);
        until("a new topic that matches", () -> a.assignment().size() == 5, List.of(a));
        admin.createPartitions(Map.of(name + ".one", NewPartitions.increaseTo(4))).all().get();
        until("new partitions", () -> a.assignment().size() == 7, List.of(a));
        admin.deleteTopics(List.of(name + ".two")).all().get();
        until("a topic that is gone", () -> a.assignment().size() == 4, List.of(a));
        a.close();
        var bad = member("consumer");
        bad.subscribe(new SubscriptionPattern("(unclosed"));
        try {
            until("a refusal", () -> false, List.of(bad));
        } catch (org.apache.kafka.common.errors.InvalidRegularExpression e) {
            bad.close();
            return;
        }
        check(false, "no refusal");
    }

    static void fixed(Admin admin) throws Exception {
        create(admin, name, 4);
        var a = member("consumer", "group.instance.id", "a", "group.remote.assignor", "range");
        var b = member("consumer", "group.instance.id", "b", "group.remote.assignor", "range");
        a.subscribe(List.of(name));
        b.subscribe(List.of(name));
        until("two each", () -> a.assignment().size() == 2 && b.assignment().size() == 2, List.of(a, b));
        var had = b.assignment();
        var before = admin.describeConsumerGroups(List.of(name)).all().get().get(name);
        check(before.partitionAssignor().equals("range"), "assignor " + before);
        b.close();
        var again = member("consumer", "group.instance.id", "b", "group.remote.assignor", "range");
        again.subscribe(List.of(name));
        until("the same partitions", () -> again.assignment().equals(had), List.of(a, again));
        var after = admin.describeConsumerGroups(List.of(name)).all().get().get(name);
        check(before.groupEpoch().equals(after.groupEpoch()), "epochs " + before + after);
        a.close();
        again.close();
        admin.removeMembersFromConsumerGroup(name, new RemoveMembersFromConsumerGroupOptions(
                List.of(new MemberToRemove("a"), new MemberToRemove("b")))).all().get();
        check(admin.describeConsumerGroups(List.of(name)).all().get().get(name).members().isEmpty(), "members left");
        admin.deleteConsumerGroups(List.of(name)).all().get();
    }

    /** The same group by one protocol after the other, while it is empty. */
    static void both(Admin admin) throws Exception {
        create(admin, name, 2);
        produce(name, 0, 10);
        for (String protocol : List.of("classic", "consumer", "classic")) {
            got.clear();
            var a = member(protocol);
            a.subscribe(List.of(name));
            until("all is read by " + protocol, () -> got.size() == 10, List.of(a));
            var type = admin.listGroups(ListGroupsOptions.forConsumerGroups()).all().get().stream()
                    .filter(g -> g.groupId().equals(name)).findFirst().get().type().get();
            check(type.toString().equalsIgnoreCase(protocol), "type " + type);
            a.commitSync(Map.of(new TopicPartition(name, 0), new OffsetAndMetadata(0),
                    new TopicPartition(name, 1), new OffsetAndMetadata(0)));
            a.close(CloseOptions.timeout(Duration.ofSeconds(20)));
            admin.deleteConsumerGroupOffsets(name,
                    Set.of(new TopicPartition(name, 0), new TopicPartition(name, 1))).all().get();
        }
    }

    public static void main(String[] args) throws Exception {
        servers = args[1];
        name = args[2];
        Properties p = common();
        try (Admin admin = Admin.create(p)) {
            switch (args[0]) {
                case "share" -> share(admin);
                case "regex" -> regex(admin);
                case "static" -> fixed(admin);
                case "both" -> both(admin);
                default -> throw new IllegalArgumentException(args[0]);
            }
        }
        System.out.println("ok");
    }
}
