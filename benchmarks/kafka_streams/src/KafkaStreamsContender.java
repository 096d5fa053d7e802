import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;

/** One stream thread, exactly_once_v2, everything else as it comes. Arguments: tables, task as JSON. */
public final class KafkaStreamsContender {
    private static final int POLL_MS = 2; // far below the commit interval, too seldom to cost CPU

    private final JsonNode task;
    private final long warmUp;
    private final long total;
    private final CountDownLatch processed = new CountDownLatch(1);
    private final AtomicReference<Throwable> failure = new AtomicReference<>();
    private long count;
    private volatile long wallFrom;
    private volatile long cpuFrom;

    private KafkaStreamsContender(JsonNode task) {
        this.task = task;
        warmUp = task.get("warm_up").asLong();
        total = warmUp + task.get("messages").asLong();
    }

    public static void main(String[] arguments) throws Exception {
        JsonNode task = new ObjectMapper().readTree(arguments[1]);
        Path folder = Files.createTempDirectory("kafka-streams-");
        try {
            new KafkaStreamsContender(task).run(Path.of(arguments[0]), folder);
        } finally {
            Files.deleteIfExists(folder);
        }
    }

    private void run(Path tables, Path folder) throws Exception {
        Decision decision = task.get("decides").asBoolean() ? new Decision(new Tables(tables)) : null;
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(task.get("topic").asText(), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
                .process(() -> new Step(decision))
                .to(task.get("target").asText(), Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", task.get("servers").asText()));
                KafkaStreams streams = new KafkaStreams(builder.build(), settings(folder))) {
            Map<TopicPartition, Long> ends = ends(admin);
            streams.setUncaughtExceptionHandler(error -> {
                failure.set(error);
                processed.countDown();
                return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
            });
            streams.start();
            processed.await();
            while (failure.get() == null && !committed(admin, ends)) {
                Thread.sleep(POLL_MS);
            }
            if (failure.get() != null) {
                throw new IllegalStateException(failure.get());
            }
            double wall = (System.nanoTime() - wallFrom) / 1e9;
            double cpu = (cpuNs() - cpuFrom) / 1e9;
            System.out.printf(
                    java.util.Locale.ROOT, "{\"messages\": %d, \"wall_s\": %f, \"cpu_s\": %f}%n", total - warmUp, wall, cpu);
            streams.close();
            streams.cleanUp();
        }
    }

    private Properties settings(Path folder) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "kafka-streams-" + task.get("run").asText());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, task.get("servers").asText());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, folder.toString());
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        return settings;
    }

    private Map<TopicPartition, Long> ends(Admin admin) throws ExecutionException, InterruptedException {
        String topic = task.get("topic").asText();
        Map<TopicPartition, OffsetSpec> wanted = new HashMap<>();
        for (TopicPartitionInfo each :
                admin.describeTopics(java.util.List.of(topic)).topicNameValues().get(topic).get().partitions()) {
            wanted.put(new TopicPartition(topic, each.partition()), OffsetSpec.latest());
        }
        Map<TopicPartition, Long> ends = new HashMap<>();
        admin.listOffsets(wanted).all().get().forEach((tp, found) -> {
            if (found.offset() > 0) {
                ends.put(tp, found.offset());
            }
        });
        return ends;
    }

    private boolean committed(Admin admin, Map<TopicPartition, Long> ends)
            throws ExecutionException, InterruptedException {
        Map<TopicPartition, OffsetAndMetadata> found = admin.listConsumerGroupOffsets("kafka-streams-" + task.get("run").asText())
                .partitionsToOffsetAndMetadata()
                .get();
        return ends.entrySet().stream().allMatch(end -> {
            OffsetAndMetadata at = found.get(end.getKey());
            return at != null && at.offset() >= end.getValue();
        });
    }

    private static long cpuNs() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    /** Counts, and decides where it is asked to. */
    private final class Step implements Processor<byte[], byte[], byte[], byte[]> {
        private final Decision decision;
        private ProcessorContext<byte[], byte[]> context;

        Step(Decision decision) {
            this.decision = decision;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            if (count == warmUp) {
                wallFrom = System.nanoTime();
                cpuFrom = cpuNs();
            }
            if (decision == null) {
                context.forward(record);
            } else {
                RecordMetadata at = context.recordMetadata().orElseThrow();
                try {
                    byte[] outcome = decision.decide(
                            record.value(), at.topic(), at.partition(), at.offset(), record.timestamp());
                    context.forward(record.withValue(outcome));
                } catch (IOException error) {
                    throw new UncheckedIOException(error);
                }
            }
            count++;
            if (count == total) {
                context.commit();
                processed.countDown();
            }
        }
    }
}
