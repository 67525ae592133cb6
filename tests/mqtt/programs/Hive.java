// HiveMQ's Java client, unmodified: one pattern after the other; "ok NAME" for each. java Hive.java PORT NAME
import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt3.Mqtt3BlockingClient;
import com.hivemq.client.mqtt.mqtt3.Mqtt3Client;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient.Mqtt5Publishes;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;

public class Hive {
    static int port;
    static String name;

    static void need(boolean ok, String what) {
        if (!ok) throw new IllegalStateException(what);
    }

    static byte[] bytes(String s) { return s.getBytes(StandardCharsets.UTF_8); }

    static String text(byte[] b) { return new String(b, StandardCharsets.UTF_8); }

    static Mqtt5BlockingClient five(String id) {
        return Mqtt5Client.builder().identifier(name + id).serverHost("127.0.0.1").serverPort(port)
            .simpleAuth().username("guest").password(bytes("guest")).applySimpleAuth().buildBlocking();
    }

    static Mqtt5Publish next(Mqtt5Publishes all) throws Exception {
        return all.receive(15, TimeUnit.SECONDS).orElseThrow(() -> new IllegalStateException("no message"));
    }

    static void qos5() throws Exception {
        Mqtt5BlockingClient c = five("q5");
        c.connect();
        for (MqttQos qos : MqttQos.values()) {
            try (Mqtt5Publishes all = c.publishes(MqttGlobalPublishFilter.ALL)) {
                String topic = name + "/5/" + qos.getCode();
                c.subscribeWith().topicFilter(topic).qos(qos).send();
                for (int i = 0; i < 50; i++) c.publishWith().topic(topic).qos(qos).payload(bytes("" + i)).send();
                for (int i = 0; i < 50; i++) {
                    Mqtt5Publish m = next(all);
                    need(text(m.getPayloadAsBytes()).equals("" + i) && m.getQos() == qos, "order and QoS");
                }
            }
        }
        c.disconnect();
    }

    static void qos3() throws Exception {
        Mqtt3BlockingClient c = Mqtt3Client.builder().identifier(name + "q3").serverHost("127.0.0.1").serverPort(port)
            .simpleAuth().username("guest").password(bytes("guest")).applySimpleAuth().buildBlocking();
        c.connect();
        try (Mqtt3BlockingClient.Mqtt3Publishes all = c.publishes(MqttGlobalPublishFilter.ALL)) {
            c.subscribeWith().topicFilter(name + "/3/+").qos(MqttQos.EXACTLY_ONCE).send();
            for (int i = 0; i < 50; i++)
                c.publishWith().topic(name + "/3/a").qos(MqttQos.EXACTLY_ONCE).payload(bytes("" + i)).send();
            for (int i = 0; i < 50; i++)
                need(text(all.receive(15, TimeUnit.SECONDS).get().getPayloadAsBytes()).equals("" + i), "order");
        }
        c.disconnect();
    }

    static void retained() throws Exception {
        Mqtt5BlockingClient c = five("r");
        c.connect();
        c.publishWith().topic(name + "/r").qos(MqttQos.AT_LEAST_ONCE).retain(true).payload(bytes("kept")).send();
        try (Mqtt5Publishes all = c.publishes(MqttGlobalPublishFilter.ALL)) {
            c.subscribeWith().topicFilter(name + "/r").qos(MqttQos.AT_LEAST_ONCE).send();
            Mqtt5Publish m = next(all);
            need(m.isRetain() && text(m.getPayloadAsBytes()).equals("kept"), "retained");
        }
        c.disconnect();
    }

    static void session() throws Exception {
        Mqtt5BlockingClient c = five("s");
        c.connectWith().cleanStart(false).sessionExpiryInterval(60).send();
        c.subscribeWith().topicFilter(name + "/s").qos(MqttQos.EXACTLY_ONCE).send();
        c.disconnect();
        Mqtt5BlockingClient p = five("sp");
        p.connect();
        p.publishWith().topic(name + "/s").qos(MqttQos.EXACTLY_ONCE).payload(bytes("waited")).send();
        p.disconnect();
        try (Mqtt5Publishes all = c.publishes(MqttGlobalPublishFilter.ALL)) {
            need(c.connectWith().cleanStart(false).sessionExpiryInterval(0).send().isSessionPresent(), "session");
            need(text(next(all).getPayloadAsBytes()).equals("waited"), "waited");
        }
        c.disconnect();
    }

    static void properties() throws Exception {
        Mqtt5BlockingClient c = five("p");
        c.connect();
        try (Mqtt5Publishes all = c.publishes(MqttGlobalPublishFilter.ALL)) {
            c.subscribeWith().topicFilter(name + "/p").qos(MqttQos.AT_LEAST_ONCE).send();
            c.publishWith().topic(name + "/p").qos(MqttQos.AT_LEAST_ONCE).contentType("t").responseTopic("to/me")
                .correlationData(bytes("id")).userProperties().add("k", "v").add("k", "w").applyUserProperties().send();
            Mqtt5Publish m = next(all);
            need(m.getContentType().get().toString().equals("t") && m.getResponseTopic().get().toString().equals("to/me"), "texts");
            need(m.getUserProperties().asList().size() == 2, "user properties");
        }
        c.disconnect();
    }

    static void shared() throws Exception {
        Mqtt5BlockingClient c = five("sh");
        c.connect();
        try (Mqtt5Publishes all = c.publishes(MqttGlobalPublishFilter.ALL)) {
            c.subscribeWith().topicFilter("$share/g/" + name + "/sh").qos(MqttQos.AT_LEAST_ONCE).send();
            for (int i = 0; i < 20; i++) c.publishWith().topic(name + "/sh").qos(MqttQos.AT_LEAST_ONCE).payload(bytes("" + i)).send();
            for (int i = 0; i < 20; i++) next(all);
        }
        c.disconnect();
    }

    interface Pattern { void run() throws Exception; }

    static void row(String label, Pattern p) throws Exception {
        p.run();
        System.out.println("ok " + label);
    }

    public static void main(String[] args) throws Exception {
        port = Integer.parseInt(args[0]);
        name = args[1];
        row("qos_311", Hive::qos3);
        row("qos_5", Hive::qos5);
        row("retained", Hive::retained);
        row("session", Hive::session);
        row("properties", Hive::properties);
        row("shared", Hive::shared);
        System.exit(0);
    }
}
