import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Word lists, conditions and constants of documentation-keeper, written by build.py from the Python modules. */
final class Tables {
    private final Map<String, List<String>> lines = new HashMap<>();

    Tables(Path file) throws IOException {
        for (String line : Files.readAllLines(file)) {
            List<String> cells = new ArrayList<>(List.of(line.split("\t", -1)));
            lines.put(cells.remove(0), cells);
        }
    }

    /** The cells of one line. */
    List<String> list(String name) {
        List<String> found = lines.get(name);
        if (found == null) {
            throw new IllegalArgumentException("no table " + name);
        }
        return found;
    }

    Set<String> set(String name) {
        return new HashSet<>(list(name));
    }

    String text(String name) {
        return list(name).get(0);
    }

    double number(String name) {
        return Double.parseDouble(text(name));
    }
}
