// Writes wire_golden.inc: for each message and version the bytes that Apache Kafka's own client library makes of its schema.
//
// usage: java -cp 'JARS/*' Vectors.java messages.def > wire_golden.inc                          (jars of kafka-clients 3.9.1)
//        java -cp 'JARS/*' Vectors.java messages.def wire_golden.inc >> wire_golden.inc       (4.1.0: versions that are not there)
//
// Values count up, so no field is like its neighbour or its default; nullable ones are null in every other vector. A version
// whose bytes are those of the version before is left out.
import java.nio.ByteBuffer;
import java.nio.file.*;
import java.util.*;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.*;
import org.apache.kafka.common.record.MemoryRecords;

public class Vectors {
    static int next;
    static boolean nulls;

    static Object value(Type type) {
        next++;
        if (nulls && type.isNullable()) return null;
        if (type instanceof Schema s) return struct(s);
        if (type.isArray()) return new Object[] {value(type.arrayElementType().get()), value(type.arrayElementType().get())};
        switch (type.toString()) {
            case "BOOLEAN": return true;
            case "INT8": return (byte) (next % 100 + 1);
            case "INT16": return (short) (next + 300);
            case "UINT16": return next + 40000;
            case "INT32": return next + 70000;
            case "UNSIGNED_INT32": return next + 3000000000L;
            case "INT64": return next + 5000000000L;
            case "FLOAT64": return next + 0.5;
            case "UUID": return new Uuid(next, next + 1);
            case "STRING": case "COMPACT_STRING": case "NULLABLE_STRING": case "COMPACT_NULLABLE_STRING": return "s" + next;
            case "BYTES": case "COMPACT_BYTES": case "NULLABLE_BYTES": case "COMPACT_NULLABLE_BYTES":
                return ByteBuffer.wrap(new byte[] {1, 2, (byte) next});
            case "RECORDS": case "COMPACT_RECORDS":
                return MemoryRecords.readableRecords(ByteBuffer.wrap(new byte[] {9, 8, (byte) next}));
            default: throw new IllegalStateException("type " + type);
        }
    }

    // The library has no accessor for it.
    @SuppressWarnings("unchecked")
    static Map<Integer, Field> fieldsOf(TaggedFields tagged) {
        try {
            var f = TaggedFields.class.getDeclaredField("fields");
            f.setAccessible(true);
            return (Map<Integer, Field>) f.get(tagged);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    static Struct struct(Schema schema) {
        Struct out = new Struct(schema);
        for (BoundField f : schema.fields()) {
            if (f.def.type instanceof TaggedFields tagged) {
                TreeMap<Integer, Object> values = new TreeMap<>();
                for (var e : fieldsOf(tagged).entrySet()) {
                    Object v = value(e.getValue().type);
                    if (v != null) values.put(e.getKey(), v);
                }
                out.set(f, values);
            } else {
                out.set(f, value(f.def.type));
            }
        }
        return out;
    }

    static byte[] bytes(Schema schema) {
        next = 0;
        Struct s = struct(schema);
        ByteBuffer b = ByteBuffer.allocate(s.sizeOf());
        s.writeTo(b);
        return b.array();
    }

    // Their schemas do not say that a struct in them may be null; the classes write what is really sent.
    static final Set<String> BY_CLASS =
        Set.of("consumer_group_heartbeat response", "describe_topic_partitions request", "describe_topic_partitions response");

    static void print(String api, boolean request, String key, int version, byte[] b) {
        System.out.printf("{\"%s\", %s, %s, %d, \"%s\"},%n", api, request, key, version, HexFormat.of().formatHex(b));
    }

    static void print(ApiMessage m, boolean request, int version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        byte[] bytes = new byte[m.size(cache, (short) version)];
        m.write(new ByteBufferAccessor(ByteBuffer.wrap(bytes)), cache, (short) version);
        print(m instanceof ConsumerGroupHeartbeatResponseData ? "consumer_group_heartbeat" : "describe_topic_partitions", request,
              Short.toString(m.apiKey()), version, bytes);
    }

    static void byClass() {
        var heartbeat = new ConsumerGroupHeartbeatResponseData().setThrottleTimeMs(1).setErrorCode((short) 2).setErrorMessage("m")
            .setMemberId("id").setMemberEpoch(3).setHeartbeatIntervalMs(4);
        print(heartbeat, false, 0);
        var topic = new ConsumerGroupHeartbeatResponseData.TopicPartitions().setTopicId(new Uuid(5, 6)).setPartitions(List.of(7, 8));
        print(heartbeat.setAssignment(new ConsumerGroupHeartbeatResponseData.Assignment().setTopicPartitions(List.of(topic))), false, 0);
        var ask = new DescribeTopicPartitionsRequestData().setResponsePartitionLimit(9)
            .setTopics(List.of(new DescribeTopicPartitionsRequestData.TopicRequest().setName("t")));
        print(ask, true, 0);
        print(ask.setCursor(new DescribeTopicPartitionsRequestData.Cursor().setTopicName("c").setPartitionIndex(3)), true, 0);
        var answer = new DescribeTopicPartitionsResponseData().setThrottleTimeMs(1);
        answer.topics().add(new DescribeTopicPartitionsResponseData.DescribeTopicPartitionsResponseTopic().setName("t")
            .setTopicId(new Uuid(1, 2)).setPartitions(List.of(
                new DescribeTopicPartitionsResponseData.DescribeTopicPartitionsResponsePartition().setPartitionIndex(4).setLeaderId(5)
                    .setLeaderEpoch(6).setReplicaNodes(List.of(1, 2)).setIsrNodes(List.of(3)).setOfflineReplicas(List.of()))));
        print(answer, false, 0);
        print(answer.setNextCursor(new DescribeTopicPartitionsResponseData.Cursor().setTopicName("c").setPartitionIndex(3)), false, 0);
    }

    public static void main(String[] args) throws Exception {
        Map<String, Integer> there = new HashMap<>();
        if (args.length > 1)
            for (String line : Files.readAllLines(Path.of(args[1]))) {
                String[] words = line.split("[\", {]+");
                if (line.startsWith("{")) there.merge(words[1] + words[2], Integer.parseInt(words[4]), Math::max);
            }
        System.out.printf("/* Made by Vectors.java with kafka-clients %s. */%n",
                          org.apache.kafka.common.utils.AppInfoParser.getVersion());
        for (String line : Files.readAllLines(Path.of(args[0]))) {
            String[] words = line.split(" ");
            if (!words[0].equals("request") && !words[0].equals("response")) continue;
            if (BY_CLASS.contains(words[1] + " " + words[0])) continue;
            ApiMessageType api = ApiMessageType.fromApiKey(Short.parseShort(words[2]));
            Schema[] schemas = words[0].equals("request") ? api.requestSchemas() : api.responseSchemas();
            byte[][] last = new byte[2][];
            int known = there.getOrDefault(words[1] + words[0].equals("request"), -1);
            int end = Integer.parseInt(words[3].substring(words[3].contains("-") ? words[3].indexOf('-') + 1 : 1));
            for (int version = 0; version < schemas.length && version <= end; version++) {
                if (schemas[version] == null) continue;
                for (int n = 0; n < 2; n++) {
                    nulls = n == 1;
                    byte[] b = bytes(schemas[version]);
                    if (Arrays.equals(b, last[n])) continue;
                    last[n] = b;
                    if (n == 1 && Arrays.equals(b, last[0])) continue;
                    if (version > known) print(words[1], words[0].equals("request"), words[2], version, b);
                }
            }
        }
        if (args.length == 1) byClass();
    }
}
