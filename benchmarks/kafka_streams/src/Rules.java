import com.fasterxml.jackson.core.io.JsonStringEncoder;
import com.fasterxml.jackson.core.io.SerializedString;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The scorecard: models/agents/documentation_keeper/rules.py in Java; its conditions come from there. */
final class Rules {
    private static final int REASONS_MAX = 3;

    record Answer(String prediction, double confidence, String action, String reason, SerializedString answers) {}

    private record Condition(int place, double above, int points, String says, boolean below) {}

    private final List<Condition> conditions = new ArrayList<>();
    private final Map<Integer, Answer> answers = new HashMap<>();
    private final Tables tables;

    Rules(Tables tables) {
        this.tables = tables;
        List<String> names = tables.list("NAMES");
        for (int i = 0; i < (int) tables.number("conditions"); i++) {
            List<String> cells = tables.list("condition" + i);
            conditions.add(new Condition(
                    names.indexOf(cells.get(0)),
                    Double.parseDouble(cells.get(1)),
                    Integer.parseInt(cells.get(2)),
                    cells.get(3),
                    Boolean.parseBoolean(cells.get(4))));
        }
    }

    Answer decide(double[] row) {
        int holds = 0;
        for (int i = 0; i < conditions.size(); i++) {
            Condition each = conditions.get(i);
            if ((row[each.place] > each.above) != each.below) {
                holds |= 1 << i;
            }
        }
        return answers.computeIfAbsent(holds, this::answer);
    }

    private Answer answer(int holds) {
        List<Condition> held = new ArrayList<>();
        int points = 0;
        for (int i = 0; i < conditions.size(); i++) {
            if ((holds >> i & 1) == 1) {
                held.add(conditions.get(i));
                points += conditions.get(i).points;
            }
        }
        double odds = tables.number("SLOPE") * points + tables.number("INTERCEPT");
        double score = rounded(1 / (1 + Math.exp(-odds)));
        double threshold = tables.number("THRESHOLD");
        double forIt = score * (1 - threshold);
        double q = forIt / (forIt + (1 - score) * threshold);
        boolean needed = score >= threshold;
        double confidence = rounded(Math.max(q, 1 - q));
        String prediction = tables.text(needed ? "NEEDED" : "NOT_NEEDED");
        String reason = reason(held, needed);
        String decider = tables.text("decider");
        String json = "{\"rules\":{\"decider\":\"%s\",\"prediction\":\"%s\",\"score\":%s,\"confidence\":%s,\"reason\":\"%s\"}}"
                .formatted(decider, prediction, score, confidence, new String(JsonStringEncoder.getInstance().quoteAsString(reason)));
        return new Answer(prediction, confidence, action(confidence), reason, new SerializedString(json));
    }

    private String action(double confidence) {
        if (confidence > tables.number("act")) {
            return "act";
        }
        return confidence >= tables.number("validate") ? "validate" : "escalate";
    }

    private static String reason(List<Condition> held, boolean needed) {
        int sign = needed ? 1 : -1;
        List<Condition> speaking = new ArrayList<>(held);
        speaking.removeIf(each -> each.points * sign <= 0);
        speaking.sort((one, other) -> Math.abs(other.points) - Math.abs(one.points));
        if (speaking.isEmpty()) {
            return needed ? "a change of usual kind and size" : "nothing that usually needs documentation";
        }
        List<String> said = new ArrayList<>();
        for (Condition each : speaking.subList(0, Math.min(REASONS_MAX, speaking.size()))) {
            said.add(each.says);
        }
        return String.join("; ", said);
    }

    private static double rounded(double value) {
        return Math.rint(value * 1e6) / 1e6;
    }
}
