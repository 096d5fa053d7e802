import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.time.OffsetDateTime;

/** One decision request, read in a single pass and checked against its contract. Reused for the next one. */
final class Request {
    private static final int FILES_MAX = 1000;
    private static final long LINES_MAX = 10_000_000;

    private final JsonFactory json;

    String id;
    String agent;
    String unit;
    String requestedAt;
    int inputFrom;
    int inputTo;

    String repository;
    String subject;
    long bodyLines;
    int count;
    final String[] paths = new String[FILES_MAX];
    final String[] previous = new String[FILES_MAX];
    final long[] added = new long[FILES_MAX];
    final long[] removed = new long[FILES_MAX];
    final char[] status = new char[FILES_MAX];

    Request(JsonFactory json) {
        this.json = json;
    }

    /** Throws IllegalArgumentException that names the field. */
    void read(byte[] value) throws IOException {
        id = agent = unit = requestedAt = repository = subject = null;
        bodyLines = 0;
        count = -1;
        try (JsonParser parser = json.createParser(value)) {
            expect(parser.nextToken() == JsonToken.START_OBJECT, "value");
            while (parser.nextToken() != JsonToken.END_OBJECT) {
                String name = parser.currentName();
                parser.nextToken();
                switch (name) {
                    case "id" -> id = text(parser, "id", 1, 200);
                    case "agent" -> agent = text(parser, "agent", 1, 63);
                    case "unit" -> unit = optional(parser, "unit", 200);
                    case "requested_at" -> {
                        requestedAt = optional(parser, "requested_at", 100);
                        if (requestedAt != null) {
                            OffsetDateTime.parse(requestedAt);
                        }
                    }
                    case "input" -> {
                        inputFrom = (int) parser.currentTokenLocation().getByteOffset();
                        input(parser);
                        inputTo = (int) parser.currentLocation().getByteOffset();
                    }
                    default -> parser.skipChildren();
                }
            }
        }
        expect(id != null, "id");
        expect("documentation-keeper".equals(agent), "agent");
        expect(repository != null, "input.repository");
        expect(subject != null, "input.subject");
        expect(count >= 0, "input.files");
    }

    private void input(JsonParser parser) throws IOException {
        expect(parser.currentToken() == JsonToken.START_OBJECT, "input");
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String name = parser.currentName();
            parser.nextToken();
            switch (name) {
                case "repository" -> repository = text(parser, "input.repository", 1, 200);
                case "subject" -> subject = text(parser, "input.subject", 0, 500);
                case "body_lines" -> bodyLines = number(parser, "input.body_lines", 100_000);
                case "author" -> optional(parser, "input.author", 200);
                case "authored_at" -> {
                    String at = optional(parser, "input.authored_at", 100);
                    if (at != null) {
                        OffsetDateTime.parse(at);
                    }
                }
                case "files" -> files(parser);
                default -> parser.skipChildren();
            }
        }
    }

    private void files(JsonParser parser) throws IOException {
        expect(parser.currentToken() == JsonToken.START_ARRAY, "input.files");
        count = 0;
        while (parser.nextToken() != JsonToken.END_ARRAY) {
            expect(parser.currentToken() == JsonToken.START_OBJECT && count < FILES_MAX, "input.files[]");
            file(parser, count);
            count++;
        }
    }

    private void file(JsonParser parser, int i) throws IOException {
        paths[i] = previous[i] = null;
        added[i] = removed[i] = 0;
        status[i] = 'M';
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String name = parser.currentName();
            parser.nextToken();
            switch (name) {
                case "path" -> paths[i] = text(parser, "input.files[].path", 1, 1000);
                case "added" -> added[i] = number(parser, "input.files[].added", LINES_MAX);
                case "removed" -> removed[i] = number(parser, "input.files[].removed", LINES_MAX);
                case "status" -> {
                    String said = text(parser, "input.files[].status", 1, 1);
                    expect("AMDRCT".contains(said), "input.files[].status");
                    status[i] = said.charAt(0);
                }
                case "previous" -> previous[i] = optional(parser, "input.files[].previous", 1000);
                case "binary" -> expect(parser.currentToken().isBoolean(), "input.files[].binary");
                default -> parser.skipChildren();
            }
        }
        expect(paths[i] != null, "input.files[].path");
    }

    private static String text(JsonParser parser, String field, int least, int most) throws IOException {
        expect(parser.currentToken() == JsonToken.VALUE_STRING, field);
        String found = parser.getText();
        int length = found.length();
        // Python counts code points, Java halves of them: only a text that looks too long need be counted.
        length = length > most ? found.codePointCount(0, length) : length;
        expect(length >= least && length <= most, field);
        return found;
    }

    private static String optional(JsonParser parser, String field, int most) throws IOException {
        return parser.currentToken() == JsonToken.VALUE_NULL ? null : text(parser, field, 0, most);
    }

    private static long number(JsonParser parser, String field, long most) throws IOException {
        expect(parser.currentToken() == JsonToken.VALUE_NUMBER_INT, field);
        long found = parser.getLongValue();
        expect(found >= 0 && found <= most, field);
        return found;
    }

    private static void expect(boolean holds, String field) {
        if (!holds) {
            throw new IllegalArgumentException(field);
        }
    }
}
