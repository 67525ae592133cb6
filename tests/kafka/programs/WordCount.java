// WordCount.java - Kafka Streams' WordCount with exactly_once_v2: WordCount BOOTSTRAP IN OUT STATE_FOLDER. Runs until the input ends
// with the line "the-end"; says "ok" then.
import java.util.Arrays;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Produced;

public class WordCount {
    public static void main(String[] words) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", words[0]);
        p.put("application.id", words[1] + "-count");
        p.put("processing.guarantee", "exactly_once_v2");
        p.put("state.dir", words[3]);
        p.put("default.key.serde", Serdes.String().getClass());
        p.put("default.value.serde", Serdes.String().getClass());
        p.put("statestore.cache.max.bytes", "0");
        p.put("replication.factor", "1");
        p.put("consumer.auto.offset.reset", "earliest");
        CountDownLatch over = new CountDownLatch(1);
        StreamsBuilder b = new StreamsBuilder();
        b.<String, String>stream(words[1])
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word)
            .count()
            .toStream()
            .peek((word, n) -> {
                if (word.equals("the-end"))
                    over.countDown();
            })
            .to(words[2], Produced.with(Serdes.String(), Serdes.Long()));
        try (KafkaStreams streams = new KafkaStreams(b.build(), p)) {
            streams.start();
            if (!over.await(180, TimeUnit.SECONDS))
                throw new IllegalStateException("not counted; " + streams.state());
        }
        System.out.println("ok");
    }
}
