import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** What kind of file a path names: models/agents/documentation_keeper/paths.py in Java. */
final class PathClasses {
    static final int README = 0;
    static final int DOCS = 1;
    static final int CHANGELOG = 2;
    static final int DOCS_SUPPORT = 3;
    static final int SOURCE = 4;
    static final int TEST = 5;
    static final int EXAMPLE = 6;
    static final int CONFIG = 7;
    static final int DEPENDENCIES = 8;
    static final int CI = 9;
    static final int VENDORED = 10;
    static final int OTHER = 11;
    private static final int NONE = -1;
    private static final int CACHE_MAX = 32_768;

    record PathClass(int kind, boolean isPublic, boolean isInterface, String directory, int levels) {}

    private record Folder(Set<String> names, boolean inDocs, boolean tried, boolean isPrivate) {}

    private final Map<String, PathClass> cache = new HashMap<>();
    private final Map<String, Folder> folders = new HashMap<>();
    private final Map<String, Set<String>> words = new HashMap<>();

    PathClasses(Tables tables) {
        for (String name : tables.list("sets")) {
            words.put(name, tables.set(name));
        }
    }

    PathClass of(String path) {
        PathClass found = cache.get(path);
        if (found == null) {
            if (cache.size() >= CACHE_MAX) {
                cache.clear();
            }
            found = classify(path);
            cache.put(path, found);
        }
        return found;
    }

    private boolean is(String set, String word) {
        return words.get(set).contains(word);
    }

    private boolean meets(String set, Set<String> names) {
        Set<String> wanted = words.get(set);
        for (String name : names) {
            if (wanted.contains(name)) {
                return true;
            }
        }
        return false;
    }

    private PathClass classify(String path) {
        int cut = path.lastIndexOf('/');
        String directory = cut < 0 ? "" : path.substring(0, cut);
        String name = path.substring(cut + 1).toLowerCase(java.util.Locale.ROOT);
        String stem = name;
        String suffix = "";
        int dot = name.lastIndexOf('.');
        if (dot > 0) {
            stem = name.substring(0, dot);
            suffix = name.substring(dot + 1);
        }
        Folder folder = folders.get(directory);
        if (folder == null) {
            if (folders.size() >= CACHE_MAX) {
                folders.clear();
            }
            folder = folder(directory);
            folders.put(directory, folder);
        }
        int kind = kind(folder, name, stem, suffix);
        boolean isPublic =
                kind == SOURCE && !folder.isPrivate && (!stem.startsWith("_") || stem.startsWith("__"));
        boolean surface = is("_INTERFACE_STEMS", stem)
                || suffix.equals("h")
                || suffix.equals("hpp")
                || meets("_INTERFACE_FOLDERS", folder.names);
        int levels = (int) directory.chars().filter(letter -> letter == '/').count();
        return new PathClass(kind, isPublic, isPublic && surface, directory, levels);
    }

    private Folder folder(String directory) {
        List<String> names =
                directory.isEmpty() ? List.of() : List.of(directory.toLowerCase(java.util.Locale.ROOT).split("/", -1));
        int docs = names.size();
        for (int i = 0; i < names.size(); i++) {
            if (is("_DOCS_FOLDERS", names.get(i))) {
                docs = i;
                break;
            }
        }
        boolean tried = false;
        for (String name : names.subList(0, docs)) {
            tried |= is("_TEST_FOLDERS", name) || is("_EXAMPLE_FOLDERS", name);
        }
        boolean isPrivate = false;
        for (String name : names) {
            isPrivate |= name.startsWith("_") || is("_INTERNAL_FOLDERS", name);
        }
        return new Folder(new HashSet<>(names), docs < names.size() && !tried, tried, isPrivate);
    }

    private int kind(Folder folder, String name, String stem, String suffix) {
        if (meets("_VENDORED_FOLDERS", folder.names)
                || is("_LOCK_NAMES", name)
                || name.endsWith(".min.js")
                || name.endsWith(".pb.go")) {
            return VENDORED;
        }
        int documentation = documentationKind(folder, name, stem, suffix);
        if (documentation != NONE) {
            return documentation;
        }
        if (meets("_CI_FOLDERS", folder.names) || is("_CI_NAMES", name)) {
            return CI;
        }
        if (isTest(folder.names, name, stem)) {
            return TEST;
        }
        if (meets("_EXAMPLE_FOLDERS", folder.names)) {
            return EXAMPLE;
        }
        return codeKind(folder.names, name, suffix);
    }

    private int documentationKind(Folder folder, String name, String stem, String suffix) {
        boolean proseSuffix = is("_PROSE_SUFFIXES", suffix);
        boolean prose = proseSuffix || suffix.isEmpty() || suffix.equals("txt") || suffix.equals("html");
        if (is("_SUPPORT_NAMES", name) || meets("_ASSISTANT_FOLDERS", folder.names)) {
            return DOCS_SUPPORT;
        }
        if (prose && is(folder.inDocs ? "_CONTRIBUTOR_STEMS" : "_SUPPORT_STEMS", stem)) {
            return DOCS_SUPPORT;
        }
        if (meets("_CI_FOLDERS", folder.names)) {
            return prose && !suffix.isEmpty() ? DOCS_SUPPORT : NONE;
        }
        boolean source = is("_SOURCE_SUFFIXES", suffix);
        if (stem.startsWith("readme") && (suffix.equals("html") || !source)) {
            return folder.tried ? DOCS_SUPPORT : README;
        }
        if (prose && isChangelog(stem, folder.inDocs)) {
            return CHANGELOG;
        }
        if (meets("_CHANGELOG_FOLDERS", folder.names) && !source) {
            return CHANGELOG;
        }
        if (folder.inDocs) {
            return inDocsTree(name, suffix);
        }
        if (folder.names.contains("requirements") && (stem.equals("doc") || stem.equals("docs"))) {
            return DOCS_SUPPORT;
        }
        if (proseSuffix) {
            return folder.tried ? DOCS_SUPPORT : DOCS;
        }
        return NONE;
    }

    private boolean isChangelog(String stem, boolean inDocs) {
        if (is("_CHANGELOG_STEMS", stem) || starts(stem, "changelog", "whatsnew", "release-notes")) {
            return true;
        }
        return inDocs && starts(stem, "upgrade-", "upgrading-", "migrate-", "migrating-", "migration-");
    }

    private int inDocsTree(String name, String suffix) {
        switch (name) {
            case "makefile", "dockerfile", "requirements.txt", "cmakelists.txt":
                return DOCS_SUPPORT;
            default:
                break;
        }
        if (starts(name, ".", "_")) {
            return DOCS_SUPPORT;
        }
        boolean digits = !suffix.isEmpty() && suffix.chars().allMatch(Character::isDigit);
        return is("_PROSE_SUFFIXES", suffix) || is("_DOCS_SUFFIXES", suffix) || digits ? DOCS : DOCS_SUPPORT;
    }

    private boolean isTest(Set<String> folders, String name, String stem) {
        if (meets("_TEST_FOLDERS", folders) || starts(stem, "test_", "tests_")) {
            return true;
        }
        if (ends(stem, "_test", "_tests", ".test", ".spec", "_spec", "-test")
                || name.equals("conftest.py")
                || name.equals("tests.py")) {
            return true;
        }
        return ends(name, ".java", ".scala", ".kt") && ends(stem, "test", "tests", "it");
    }

    private int codeKind(Set<String> folders, String name, String suffix) {
        if (is("_DEPENDENCY_NAMES", name)
                || folders.contains("requirements")
                || (name.startsWith("requirements") && suffix.equals("txt"))) {
            return DEPENDENCIES;
        }
        if (is("_BUILD_NAMES", name) || meets("_BUILD_FOLDERS", folders)) {
            return CONFIG;
        }
        if (is("_SOURCE_SUFFIXES", suffix)) {
            return SOURCE;
        }
        return is("_CONFIG_SUFFIXES", suffix) || name.startsWith(".") ? CONFIG : OTHER;
    }

    private static boolean starts(String text, String... beginnings) {
        for (String each : beginnings) {
            if (text.startsWith(each)) {
                return true;
            }
        }
        return false;
    }

    private static boolean ends(String text, String... endings) {
        for (String each : endings) {
            if (text.endsWith(each)) {
                return true;
            }
        }
        return false;
    }
}
