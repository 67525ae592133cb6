// Copier.java - copies `in` to `out` in transactions with Apache Kafka's own client: Copier BOOTSTRAP SEED.
//
// Reads with read_committed, writes each value with its position in one transaction, rolls some back. Whatever ends a producer's life
// begins a new one with the same id, from the committed positions. Stops at the end of `in` once its own input has ended, and says
// what it did.
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Copier {
    static final List<TopicPartition> PARTS = List.of(new TopicPartition("in", 0), new TopicPartition("in", 1));
    static volatile boolean closing;
    static String bootstrap;
    static Random random;
    static int commits, rollbacks, lives;

    static Properties settings(Map<String, String> more) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("default.api.timeout.ms", "20000");
        p.put("reconnect.backoff.max.ms", "200");
        p.putAll(more);
        return p;
    }

    static void seek(KafkaConsumer<String, String> consumer) {
        Map<TopicPartition, OffsetAndMetadata> at = consumer.committed(Set.copyOf(PARTS));
        for (TopicPartition part : PARTS)
            consumer.seek(part, at.get(part) == null ? 0 : at.get(part).offset());
    }

    static boolean over(KafkaConsumer<String, String> consumer) {
        if (!closing) return false;
        Map<TopicPartition, Long> ends = consumer.endOffsets(PARTS);
        return PARTS.stream().allMatch(part -> consumer.position(part) >= ends.get(part));
    }

    static void live() {
        lives++;
        try (var consumer = new KafkaConsumer<>(settings(Map.of("group.id", "copier", "isolation.level", "read_committed",
                 "enable.auto.commit", "false", "max.poll.records", "100")), new StringDeserializer(), new StringDeserializer());
             var producer = new KafkaProducer<>(settings(Map.of("transactional.id", "copier", "max.block.ms", "20000")),
                 new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            consumer.assign(PARTS);
            seek(consumer);
            while (true) {
                var records = consumer.poll(Duration.ofMillis(100));
                if (records.isEmpty() && over(consumer)) return;
                if (!records.isEmpty()) turn(consumer, producer, records);
            }
        }
    }

    static void turn(KafkaConsumer<String, String> consumer, KafkaProducer<String, String> producer,
                     Iterable<ConsumerRecord<String, String>> records) {
        Map<TopicPartition, OffsetAndMetadata> after = new HashMap<>();
        producer.beginTransaction();
        for (ConsumerRecord<String, String> r : records) {
            producer.send(new ProducerRecord<>("out", random.nextInt(PARTS.size()), null, r.value()));
            after.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
        }
        if (random.nextInt(100) < 15) {
            producer.abortTransaction();
            rollbacks++;
            seek(consumer);
            return;
        }
        producer.sendOffsetsToTransaction(after, consumer.groupMetadata());
        producer.commitTransaction();
        commits++;
    }

    public static void main(String[] words) throws Exception {
        bootstrap = words[0];
        random = new Random(Long.parseLong(words[1]));
        Thread input = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (java.io.IOException e) { }
            closing = true;
        });
        input.setDaemon(true);
        input.start();
        for (boolean done = false; !done;)
            try {
                live();
                done = true;
            } catch (KafkaException e) {
                System.err.println(e);
            }
        System.out.println(commits + " " + rollbacks + " " + lives);
    }
}
