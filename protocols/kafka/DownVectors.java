// Writes legacy_golden.inc: batches, and the message sets that Apache Kafka's own client library makes of them for old consumers.
//
// usage: java -cp 'JARS/*' DownVectors.java > legacy_golden.inc      (jars of kafka-clients 3.9.1, the last that can do it)
//
// The library compresses again what was compressed; here all comes out plain, so such batches are held against the set of the
// same records without a codec.
import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.*;
import org.apache.kafka.common.utils.Time;

public class DownVectors {
    static byte[] bytes(MemoryRecords of) {
        ByteBuffer b = of.buffer().duplicate();
        byte[] out = new byte[b.remaining()];
        b.get(out);
        return out;
    }

    static byte[] s(String text) {
        return text == null ? null : text.getBytes();
    }

    static byte[] batch(CompressionType codec, TimestampType type, long base) {
        ByteBuffer room = ByteBuffer.allocate(4096);
        MemoryRecordsBuilder b = MemoryRecords.builder(room, RecordBatch.MAGIC_VALUE_V2, Compression.of(codec).build(), type, base,
            type == TimestampType.LOG_APPEND_TIME ? 9000L + base : RecordBatch.NO_TIMESTAMP);
        b.append(1000 + base, s("key"), s("value" + base));
        b.append(1003 + base, null, s("no key"), new Header[] {new RecordHeader("name", s("text")), new RecordHeader("null", null)});
        b.append(1001 + base, s("gone"), null);
        b.append(1002 + base, s(""), s(""));
        return bytes(b.build());
    }

    static byte[] marker(long offset) {
        return bytes(MemoryRecords.withEndTransactionMarker(offset, 5000, 3, 7L, (short) 1,
            new EndTransactionMarker(ControlRecordType.COMMIT, 2)));
    }

    static byte[] join(byte[]... parts) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (byte[] part : parts) out.writeBytes(part);
        return out.toByteArray();
    }

    static void print(String name, long from, byte[] batches, byte[] plain) {
        for (byte magic = 0; magic < 2; magic++) {
            var set = MemoryRecords.readableRecords(ByteBuffer.wrap(plain)).downConvert(magic, from, Time.SYSTEM).records();
            System.out.printf("{\"%s\", %d, %d, \"%s\", \"%s\"},%n", name, magic, from, HexFormat.of().formatHex(batches),
                              HexFormat.of().formatHex(bytes((MemoryRecords) set)));
        }
    }

    public static void main(String[] args) {
        System.out.println("/* Made by DownVectors.java with kafka-clients 3.9.1. */");
        byte[] created = batch(CompressionType.NONE, TimestampType.CREATE_TIME, 10);
        byte[] appended = batch(CompressionType.NONE, TimestampType.LOG_APPEND_TIME, 20);
        print("created", 0, created, created);
        print("appended", 0, appended, appended);
        print("from the middle", 12, join(created, appended), join(created, appended));
        print("over the first", 15, join(created, appended), join(created, appended));
        print("around a marker", 0, join(created, marker(14), appended), join(created, marker(14), appended));
        print("a marker alone", 0, marker(14), marker(14));
        for (CompressionType codec : CompressionType.values())
            if (codec != CompressionType.NONE)
                print(codec.name, 0, batch(codec, TimestampType.CREATE_TIME, 10), created);
    }
}
