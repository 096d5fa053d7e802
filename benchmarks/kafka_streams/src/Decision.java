import com.dynatrace.hash4j.hashing.Hasher64;
import com.dynatrace.hash4j.hashing.Hashing;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.SerializableString;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.StreamWriteFeature;
import com.fasterxml.jackson.core.io.SerializedString;
import com.fasterxml.jackson.core.util.ByteArrayBuilder;
import com.fasterxml.jackson.core.util.JsonRecyclerPools;
import java.io.IOException;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;

/** A request's bytes to its outcome's: decode, features, rules, encode. Not for several threads. */
final class Decision {
    private static final byte[] HEX = "0123456789abcdef".getBytes(java.nio.charset.StandardCharsets.US_ASCII);
    private static final Hasher64 HASH = Hashing.xxh3_64();

    private final JsonFactory json = JsonFactory.builder()
            .enable(StreamReadFeature.USE_FAST_DOUBLE_PARSER)
            .enable(StreamWriteFeature.USE_FAST_DOUBLE_WRITER)
            .recyclerPool(JsonRecyclerPools.threadLocalPool())
            .build();
    private final Request request = new Request(json);
    private final Features features;
    private final Rules rules;
    private final ByteArrayBuilder out = new ByteArrayBuilder();
    private final double[] row;
    private final List<SerializableString> names = new ArrayList<>();
    private final SerializableString flag;
    private final SerializableString versions;

    Decision(Tables tables) {
        features = new Features(tables);
        row = new double[features.count()];
        rules = new Rules(tables);
        for (String name : tables.list("NAMES")) {
            names.add(new SerializedString(name));
        }
        flag = new SerializedString(tables.text("flag"));
        versions = new SerializedString(tables.text("versions"));
    }

    /** The outcome. Throws IllegalArgumentException or a JSON error where the request breaks its contract. */
    byte[] decide(byte[] value, String topic, int partition, long offset, long timestampMs) throws IOException {
        long began = System.nanoTime();
        request.read(value);
        features.of(request, row);
        Rules.Answer answer = rules.decide(row);
        double featuresMs = (System.nanoTime() - began) / 1e6;
        out.reset();
        Instant now = Instant.now();
        try (JsonGenerator to = json.createGenerator(out)) {
            to.writeStartObject();
            answered(to, answer);
            to.writeFieldName("features");
            to.writeStartObject();
            for (int i = 0; i < row.length; i++) {
                to.writeFieldName(names.get(i));
                long whole = (long) row[i];
                if (whole == row[i]) {
                    to.writeNumber(whole);
                } else {
                    to.writeNumber(row[i]);
                }
            }
            to.writeEndObject();
            to.writeFieldName("input");
            to.writeRawValue(""); // the separator; what follows is copied as it came
            to.flush();
            out.write(value, request.inputFrom, request.inputTo - request.inputFrom);
            to.writeStringField("requested_at", request.requestedAt);
            to.writeStringField("decided_at", now.truncatedTo(ChronoUnit.MICROS).toString());
            to.writeObjectFieldStart("timings");
            double totalMs = now.toEpochMilli() + now.getNano() % 1_000_000 / 1e6 - timestampMs;
            to.writeNumberField("total_ms", Math.max(0.0, Math.rint(totalMs * 1e3) / 1e3));
            to.writeNumberField("features_ms", Math.rint(featuresMs * 1e4) / 1e4);
            to.writeEndObject();
            to.writeObjectFieldStart("place");
            to.writeStringField("topic", topic);
            to.writeNumberField("partition", partition);
            to.writeNumberField("offset", offset);
            to.writeEndObject();
            to.writeStringField("content_hash", hex(HASH.hashBytesToLong(value)));
            to.writeNumberField("schema_version", 1);
            to.writeEndObject();
        }
        return out.toByteArray();
    }

    private void answered(JsonGenerator to, Rules.Answer answer) throws IOException {
        to.writeStringField("decision_id", request.id);
        to.writeStringField("agent", request.agent);
        to.writeStringField("unit", request.unit);
        to.writeStringField("status", "final");
        to.writeNumberField("revision", 1);
        to.writeBooleanField("success", true);
        to.writeStringField("source", "deterministic");
        to.writeStringField("arm", "control");
        to.writeStringField("prediction", answer.prediction());
        to.writeNumberField("confidence", answer.confidence());
        to.writeStringField("reason", answer.reason());
        to.writeStringField("action", answer.action());
        to.writeBooleanField("needs_review", answer.action().equals("escalate"));
        to.writeNullField("fallback_reason");
        to.writeFieldName("answers");
        to.writeRawValue(answer.answers());
        to.writeFieldName("flag");
        to.writeRawValue(flag);
        to.writeFieldName("versions");
        to.writeRawValue(versions);
    }

    private static String hex(long value) {
        byte[] text = new byte[16];
        for (int i = 0; i < 16; i++) {
            text[i] = HEX[(int) (value >>> 60 - 4 * i) & 15];
        }
        return new String(text, java.nio.charset.StandardCharsets.US_ASCII);
    }
}
