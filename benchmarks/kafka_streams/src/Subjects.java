import java.util.HashMap;
import java.util.Map;

/** Which groups of words occur in a subject line: models/agents/documentation_keeper/subject.py in Java. */
final class Subjects {
    private final Map<String, Integer> bits = new HashMap<>();
    private final int masked;

    Subjects(Tables tables) {
        masked = (int) tables.number("MASKED");
        for (String cell : tables.list("_BITS")) {
            int cut = cell.indexOf('=');
            bits.put(cell.substring(0, cut), Integer.parseInt(cell.substring(cut + 1)));
        }
    }

    /** The groups as bits in the lower half, the number of words in the upper. */
    long of(String subject) {
        long groups = 0;
        int count = 0;
        int length = subject.length();
        int i = 0;
        while (i < length) {
            while (i < length && !letter(subject.charAt(i))) {
                i++;
            }
            if (i == length) {
                break;
            }
            int from = i;
            boolean upper = false;
            while (i < length && letter(subject.charAt(i))) {
                upper |= subject.charAt(i) <= 'Z';
                i++;
            }
            String word = subject.substring(from, i);
            Integer found = bits.get(upper ? word.toLowerCase(java.util.Locale.ROOT) : word);
            count++;
            if (found != null) {
                if (found >= masked) {
                    count--;
                } else {
                    groups |= found;
                }
            }
        }
        return groups | (long) count << 32;
    }

    private static boolean letter(char each) {
        return (each >= 'a' && each <= 'z') || (each >= 'A' && each <= 'Z');
    }
}
