// Transactions.java - transactions with Apache Kafka's own client: Transactions BOOTSTRAP NAME. Says "ok" at the end.
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Transactions {
    static String bootstrap, topic, group;

    static KafkaProducer<String, String> producer(String id) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("transactional.id", id);
        KafkaProducer<String, String> made = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer());
        made.initTransactions();
        return made;
    }

    static KafkaConsumer<String, String> consumer(String isolation) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("group.id", group);
        p.put("isolation.level", isolation);
        p.put("enable.auto.commit", "false");
        return new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
    }

    static List<String> read(String isolation) {
        List<String> values = new ArrayList<>();
        TopicPartition at = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> c = consumer(isolation)) {
            c.assign(List.of(at));
            c.seekToBeginning(List.of(at));
            long end = c.endOffsets(List.of(at)).get(at);
            long deadline = System.nanoTime() + 60_000_000_000L;
            while (c.position(at) < end) {
                if (System.nanoTime() > deadline)
                    throw new IllegalStateException("no end at " + c.position(at) + " of " + end);
                for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(200)))
                    values.add(r.value());
            }
        }
        return values;
    }

    static void check(boolean is, String what) {
        if (!is)
            throw new IllegalStateException(what);
    }

    static void equal(Object got, Object wanted) {
        check(got.equals(wanted), "got " + got + ", wanted " + wanted);
    }

    public static void main(String[] words) throws Exception {
        bootstrap = words[0];
        topic = words[1];
        group = words[1] + "-group";
        String id = words[1] + "-id";
        TopicPartition at = new TopicPartition(topic, 0);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1))).all().get();
            equal((int) admin.describeFeatures().featureMetadata().get().finalizedFeatures().get("transaction.version").maxVersionLevel(), 2);
            KafkaProducer<String, String> p = producer(id);
            p.beginTransaction();
            p.send(new ProducerRecord<>(topic, 0, "k", "a"));
            p.send(new ProducerRecord<>(topic, 1, "k", "elsewhere"));
            p.commitTransaction();
            long epoch = admin.describeTransactions(List.of(id)).description(id).get().producerEpoch();
            equal(epoch, 1L); // each end raises it (KIP-890)
            p.beginTransaction();
            p.abortTransaction();
            p.beginTransaction();
            p.send(new ProducerRecord<>(topic, 0, "k", "b"));
            p.flush();
            p.abortTransaction();
            equal(read("read_committed"), List.of("a"));
            equal(read("read_uncommitted"), List.of("a", "b"));

            p.beginTransaction();
            p.send(new ProducerRecord<>(topic, 0, "k", "c")).get();
            equal(read("read_committed"), List.of("a"));
            var open = admin.describeTransactions(List.of(id)).description(id).get();
            equal(open.state(), TransactionState.ONGOING);
            equal(open.topicPartitions(), Set.of(at));
            check(admin.listTransactions().all().get().stream().anyMatch(t -> t.transactionalId().equals(id)), "not listed");
            check(admin.listTransactions(new ListTransactionsOptions().filterOnTransactionalIdPattern("nobody.*")).all().get().isEmpty(), "a pattern matched");
            equal(admin.listTransactions(new ListTransactionsOptions().filterOnTransactionalIdPattern(id + "?")).all().get().size(), 1);
            List<ProducerState> known = admin.describeProducers(List.of(at)).partitionResult(at).get().activeProducers();
            check(known.stream().anyMatch(s -> s.producerId() == open.producerId() && s.currentTransactionStartOffset().isPresent()),
                  "no open producer in " + known);
            try (KafkaConsumer<String, String> c = consumer("read_committed")) {
                p.sendOffsetsToTransaction(Map.of(at, new OffsetAndMetadata(1)), c.groupMetadata());
                p.commitTransaction();
                equal(c.committed(Set.of(at)).get(at).offset(), 1L);
            }
            equal(read("read_committed"), List.of("a", "c"));

            p.beginTransaction();
            p.send(new ProducerRecord<>(topic, 0, "k", "zombie")).get();
            KafkaProducer<String, String> heir = producer(id);
            try {
                p.commitTransaction();
                check(false, "a zombie committed");
            } catch (KafkaException fenced) {
                p.close(Duration.ZERO);
            }
            heir.beginTransaction();
            heir.send(new ProducerRecord<>(topic, 0, "k", "d"));
            heir.commitTransaction();
            equal(read("read_committed"), List.of("a", "c", "d"));

            heir.beginTransaction();
            heir.send(new ProducerRecord<>(topic, 0, "k", "hangs")).get();
            var hangs = admin.describeProducers(List.of(at)).partitionResult(at).get().activeProducers().stream()
                .filter(s -> s.currentTransactionStartOffset().isPresent()).findFirst().orElseThrow();
            admin.abortTransaction(new AbortTransactionSpec(at, hangs.producerId(), (short) hangs.producerEpoch(),
                                                            hangs.coordinatorEpoch().orElse(0))).all().get();
            heir.close(Duration.ZERO);
            equal(read("read_committed"), List.of("a", "c", "d"));
            admin.fenceProducers(List.of(id)).all().get();
        }
        System.out.println("ok");
    }
}
