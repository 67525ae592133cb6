import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MemoryRecordsBuilder;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.utils.Utils;

/*
 * Writes records_golden.inc: the bytes that Apache Kafka's own client library makes of the records in records_test.c, and the
 * partitions it chooses for keys. Run by hand when records are added:
 *   java -cp 'DIR/OF/JARS/*' RecordsGolden.java > records_golden.inc
 */
public class RecordsGolden {
    static byte[] bytes(String s) {
        return s == null ? null : s.getBytes(java.nio.charset.StandardCharsets.UTF_8);
    }

    static byte[] large() {
        byte[] b = new byte[300];
        for (int i = 0; i < b.length; i++)
            b[i] = (byte) i;
        return b;
    }

    static void emit(String name, MemoryRecordsBuilder b) {
        MemoryRecords records = b.build();
        ByteBuffer buf = records.buffer();
        System.out.println("static const uint8_t golden_" + name + "[] = {");
        StringBuilder line = new StringBuilder();
        for (int i = 0; i < buf.limit(); i++) {
            line.append(String.format("0x%02x,", buf.get(i)));
            if (line.length() > 100) {
                System.out.println("    " + line);
                line.setLength(0);
            }
        }
        System.out.println("    " + line + "\n};");
    }

    static MemoryRecordsBuilder builder() {
        return new MemoryRecordsBuilder(ByteBuffer.allocate(4096), RecordBatch.MAGIC_VALUE_V2, Compression.NONE,
            TimestampType.CREATE_TIME, 0L, RecordBatch.NO_TIMESTAMP, RecordBatch.NO_PRODUCER_ID,
            RecordBatch.NO_PRODUCER_EPOCH, RecordBatch.NO_SEQUENCE, false, false,
            RecordBatch.NO_PARTITION_LEADER_EPOCH, 4096);
    }

    public static void main(String[] args) {
        System.out.println("/* Made by RecordsGolden.java with Apache Kafka's client library; not to be edited. */");
        MemoryRecordsBuilder one = builder();
        one.append(1700000000123L, bytes("key"), bytes("value"));
        emit("one", one);

        MemoryRecordsBuilder many = builder();
        Header[] headers = {new RecordHeader("h", bytes("v")), new RecordHeader("h", bytes("again")),
                            new RecordHeader("null", (byte[]) null), new RecordHeader("", new byte[0]),
                            new RecordHeader("bin", new byte[] {0, (byte) 0xff, (byte) 0x80})};
        many.append(1700000000500L, null, bytes("no key"), headers);
        many.append(1700000000400L, bytes(""), null);
        many.append(1700000009999L, bytes("k\u00e4y"), bytes(""));
        many.append(1700000009999L, bytes("large"), large());
        emit("many", many);

        String[] keys = {"", "a", "ab", "abc", "abcd", "orders.eu", "\u00fcml\u00e4ut", "0123456789abcdef0"};
        System.out.println("static const struct {\n    const char *key;\n    uint32_t of_12, of_1000;\n} golden_partitions[] = {");
        for (String k : keys) {
            int h = Utils.toPositive(Utils.murmur2(bytes(k)));
            StringBuilder hex = new StringBuilder();
            for (byte x : bytes(k))
                hex.append(x >= 0x20 && x < 0x7f ? String.valueOf((char) x) : String.format("\" \"\\x%02x\" \"", x));
            System.out.println("    {\"" + hex + "\", " + h % 12 + ", " + h % 1000 + "},");
        }
        System.out.println("};");
    }
}
