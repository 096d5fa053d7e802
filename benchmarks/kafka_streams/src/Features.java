import java.util.HashSet;
import java.util.Set;

/** A code change to numbers: models/agents/documentation_keeper/features.py in Java, for units that nothing is known of. */
final class Features {
    private static final int OWN = 29;
    private static final int GROUPS = 7;

    private final PathClasses classes;
    private final Subjects subjects;
    private final double[] unknown;
    private final Set<String> directories = new HashSet<>();

    Features(Tables tables) {
        classes = new PathClasses(tables);
        subjects = new Subjects(tables);
        unknown = tables.list("UNKNOWN").stream().mapToDouble(Double::parseDouble).toArray();
    }

    /** How many numbers. */
    int count() {
        return OWN + unknown.length;
    }

    void of(Request change, double[] row) {
        files(change, row);
        long signals = subjects.of(change.subject);
        row[20] = signals >>> 32;
        for (int i = 0; i < GROUPS; i++) {
            row[21 + i] = signals >> i & 1;
        }
        row[28] = change.bodyLines;
        System.arraycopy(unknown, 0, row, OWN, unknown.length);
    }

    private void files(Request change, double[] row) {
        int source = 0;
        int test = 0;
        int config = 0;
        int example = 0;
        int other = 0;
        long added = 0;
        long removed = 0;
        long largest = 0;
        long testAdded = 0;
        int created = 0;
        int deleted = 0;
        int renamed = 0;
        int publicFiles = 0;
        long publicAdded = 0;
        int publicNew = 0;
        int interfaces = 0;
        long interfaceAdded = 0;
        int depth = 99;
        directories.clear();
        for (int i = 0; i < change.count; i++) {
            PathClasses.PathClass of = classes.of(change.paths[i]);
            if (of.kind() <= PathClasses.DOCS_SUPPORT) {
                continue;
            }
            String before = change.previous[i];
            if (before != null && classes.of(before).kind() <= PathClasses.DOCS_SUPPORT) {
                continue;
            }
            directories.add(of.directory());
            switch (of.kind()) {
                case PathClasses.SOURCE -> {
                    source++;
                    long plus = change.added[i];
                    long minus = change.removed[i];
                    added += plus;
                    removed += minus;
                    largest = Math.max(largest, plus + minus);
                    depth = Math.min(depth, of.levels());
                    if (of.isPublic()) {
                        publicFiles++;
                        publicAdded += plus;
                        if (of.isInterface()) {
                            interfaces++;
                            interfaceAdded += plus;
                        }
                    }
                    switch (change.status[i]) {
                        case 'A' -> {
                            created++;
                            publicNew += of.isPublic() ? 1 : 0;
                        }
                        case 'D' -> deleted++;
                        case 'R' -> renamed++;
                        default -> { }
                    }
                }
                case PathClasses.TEST -> {
                    test++;
                    testAdded += change.added[i];
                }
                case PathClasses.EXAMPLE -> example++;
                case PathClasses.CONFIG, PathClasses.DEPENDENCIES, PathClasses.CI -> config++;
                default -> other++;
            }
        }
        long lines = added + removed;
        row[0] = source;
        row[1] = test;
        row[2] = config;
        row[3] = example;
        row[4] = other;
        row[5] = added;
        row[6] = removed;
        row[7] = (double) (added - removed) / (lines + 1);
        row[8] = lines > 0 ? (double) largest / lines : 1.0;
        row[9] = testAdded;
        row[10] = created;
        row[11] = deleted;
        row[12] = renamed;
        row[13] = publicFiles;
        row[14] = publicAdded;
        row[15] = publicNew;
        row[16] = interfaces;
        row[17] = interfaceAdded;
        row[18] = directories.size();
        row[19] = source > 0 ? depth : 0.0;
    }
}
