import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Prints anomalies as they come: java -cp "LIB/*" Subscriber.java [broker] [topic] [group]. */
public class Subscriber {
    public static void main(String[] args) {
        Map<String, Object> options = Map.of(
            "bootstrap.servers", args.length > 0 ? args[0] : "127.0.0.1:9092",
            "group.id", args.length > 2 ? args[2] : "my-subscriber",
            "isolation.level", "read_committed", // else also what a crashed worker will send again
            "auto.offset.reset", "earliest");
        try (var consumer = new KafkaConsumer<>(options, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(args.length > 1 ? args[1] : "tocsin.anomalies"));
            while (true)
                consumer.poll(Duration.ofSeconds(1)).forEach(message -> System.out.println(message.value()));
        }
    }
}
