import com.rabbitmq.client.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;

/** The tutorials' patterns with RabbitMQ's Java client. Prints "ok NAME" per pattern; an error ends it with code 1. */
public class Patterns {
    interface Pattern { void run(Connection conn) throws Exception; }

    static String tag;

    static String name(String part) { return "java-" + part + "-" + tag; }

    static byte[] bytes(String text) { return text.getBytes(StandardCharsets.UTF_8); }

    static void check(Object is, Object should) {
        if (!Objects.equals(is, should)) throw new AssertionError("got " + is + ", not " + should);
    }

    static List<String> take(Channel ch, String queue, int count, boolean autoAck) throws Exception {
        BlockingQueue<String> got = new LinkedBlockingQueue<>();
        String consumer = ch.basicConsume(queue, autoAck, (t, d) -> {
            got.add(new String(d.getBody(), StandardCharsets.UTF_8));
            if (!autoAck) ch.basicAck(d.getEnvelope().getDeliveryTag(), false);
        }, t -> { });
        List<String> out = new ArrayList<>();
        for (int n = 0; n < count; n++) {
            String text = got.poll(60, TimeUnit.SECONDS);
            if (text == null) throw new TimeoutException("message " + n + " of " + count + " from " + queue);
            out.add(text);
        }
        ch.basicCancel(consumer);
        return out;
    }

    static void workQueue(Connection conn) throws Exception {
        Channel ch = conn.createChannel();
        String q = name("work");
        ch.queueDeclare(q, true, false, false, null);
        ch.basicQos(1);
        List<String> tasks = new ArrayList<>();
        for (int n = 0; n < 10; n++) {
            tasks.add("task " + n);
            ch.basicPublish("", q, MessageProperties.PERSISTENT_TEXT_PLAIN, bytes("task " + n));
        }
        check(take(ch, q, 10, false), tasks);
        ch.queueDelete(q);
    }

    static void publishSubscribe(Connection conn) throws Exception {
        Channel ch = conn.createChannel();
        ch.exchangeDeclare(name("logs"), "fanout", false, true, null);
        List<String> queues = new ArrayList<>();
        for (int n = 0; n < 2; n++) {
            queues.add(ch.queueDeclare().getQueue());
            ch.queueBind(queues.get(n), name("logs"), "");
        }
        ch.basicPublish(name("logs"), "", null, bytes("hello"));
        for (String q : queues) check(take(ch, q, 1, true), List.of("hello"));
    }

    static void keys(Connection conn, String kind, List<String> bound, List<String> sent, List<String> expected)
            throws Exception {
        Channel ch = conn.createChannel();
        ch.exchangeDeclare(name(kind), kind, false, true, null);
        String q = ch.queueDeclare().getQueue();
        for (String key : bound) ch.queueBind(q, name(kind), key);
        for (String key : sent) ch.basicPublish(name(kind), key, null, bytes(key));
        check(take(ch, q, expected.size(), true), expected);
    }

    static void rpc(Connection conn) throws Exception {
        Channel serverChannel = conn.createChannel();
        String q = serverChannel.queueDeclare().getQueue();
        RpcServer server = new RpcServer(serverChannel, q) {
            @Override public byte[] handleCall(Delivery request, AMQP.BasicProperties reply) {
                return bytes("2x" + new String(request.getBody(), StandardCharsets.UTF_8));
            }
        };
        Thread loop = new Thread(() -> { try { server.mainloop(); } catch (Exception ended) { } });
        loop.setDaemon(true);
        loop.start();
        RpcClient client = new RpcClient(new RpcClientParams().channel(conn.createChannel()).exchange("")
                .routingKey(q).timeout(60_000));
        for (String ask : List.of("1", "2", "3")) check(client.stringCall(ask), "2x" + ask);
        client.close();
    }

    static void confirms(Connection conn) throws Exception {
        Channel ch = conn.createChannel();
        String q = name("confirms");
        ch.queueDeclare(q, true, false, false, null);
        ch.confirmSelect();
        for (int n = 0; n < 200; n++) ch.basicPublish("", q, MessageProperties.PERSISTENT_BASIC, bytes("" + n));
        ch.waitForConfirmsOrDie(10_000);
        check(ch.messageCount(q), 200L);
        CompletableFuture<Integer> returned = new CompletableFuture<>();
        ch.addReturnListener(r -> returned.complete(r.getReplyCode()));
        ch.basicPublish("", name("nowhere"), true, null, bytes("m"));
        check(returned.get(10, TimeUnit.SECONDS), 312);
        ch.queueDelete(q);
    }

    static void errors(Connection conn) throws Exception {
        try {
            conn.createChannel().queueDeclarePassive(name("none"));
            throw new AssertionError("no error");
        } catch (java.io.IOException error) {
            AMQP.Channel.Close close = (AMQP.Channel.Close) ((ShutdownSignalException) error.getCause()).getReason();
            check(close.getReplyCode(), 404);
            check(close.getReplyText(), "NOT_FOUND - no queue '" + name("none") + "' in vhost '/'");
        }
    }

    static Map<String, Object> typedHeaders() {
        Map<String, Object> headers = new LinkedHashMap<>();
        headers.put("n", 5);
        headers.put("big", 1L << 40);
        headers.put("short", (short) -3);
        headers.put("byte", (byte) 7);
        headers.put("float", 1.5f);
        headers.put("double", -2.5);
        headers.put("yes", true);
        headers.put("when", new Date(1700000000000L));
        headers.put("list", List.of(1, 2));
        headers.put("decimal", new java.math.BigDecimal("3.14"));
        return headers;
    }

    static void stream(Connection conn) throws Exception {
        Channel ch = conn.createChannel();
        String q = name("stream");
        ch.confirmSelect();
        ch.queueDeclare(q, true, false, false, Map.of("x-queue-type", "stream"));
        AMQP.BasicProperties props = new AMQP.BasicProperties.Builder().headers(typedHeaders()).build();
        for (int n = 0; n < 20; n++) ch.basicPublish("", q, props, bytes("" + n));
        ch.waitForConfirmsOrDie(10_000);
        ch.basicQos(5);
        java.util.concurrent.BlockingQueue<Delivery> got = new java.util.concurrent.LinkedBlockingQueue<>();
        ch.basicConsume(q, false, Map.of("x-stream-offset", new Date(System.currentTimeMillis() - 60_000)),
                (consumer, delivery) -> {
                    got.add(delivery);
                    ch.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
                }, consumer -> { });
        for (long n = 0; n < 20; n++) {
            Delivery delivery = got.poll(60, TimeUnit.SECONDS);
            Map<String, Object> headers = typedHeaders();
            headers.put("x-stream-offset", n);
            check(delivery.getProperties().getHeaders(), headers);
            check(new String(delivery.getBody()), "" + n);
        }
        ch.queueDelete(q);
    }

    static void properties(Connection conn) throws Exception {
        Channel ch = conn.createChannel();
        String q = ch.queueDeclare().getQueue();
        Map<String, Object> headers = typedHeaders();
        ch.basicPublish("", q, new AMQP.BasicProperties.Builder().headers(headers).messageId("m").priority(3).build(),
                new byte[300_000]);
        GetResponse got = null;
        while (got == null) got = ch.basicGet(q, true);
        check(got.getProps().getHeaders(), headers);
        check(got.getBody().length, 300_000);
    }

    public static void main(String[] args) throws Exception {
        tag = args[1];
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(args[0]);
        Map<String, Pattern> patterns = new LinkedHashMap<>();
        patterns.put("work_queue", Patterns::workQueue);
        patterns.put("publish_subscribe", Patterns::publishSubscribe);
        patterns.put("routing", c -> keys(c, "direct", List.of("error", "warning"),
                List.of("info", "error", "warning"), List.of("error", "warning")));
        patterns.put("topics", c -> keys(c, "topic", List.of("kern.#"), List.of("kern", "cron.x", "kern.a.b"),
                List.of("kern", "kern.a.b")));
        patterns.put("rpc", Patterns::rpc);
        patterns.put("confirms", Patterns::confirms);
        patterns.put("stream", Patterns::stream);
        patterns.put("errors", Patterns::errors);
        patterns.put("properties", Patterns::properties);
        try (Connection conn = factory.newConnection()) {
            for (Map.Entry<String, Pattern> pattern : patterns.entrySet()) {
                pattern.getValue().run(conn);
                System.out.println("ok " + pattern.getKey());
            }
        } catch (Throwable error) {
            error.printStackTrace();
            System.exit(1);
        }
        System.exit(0);
    }
}
