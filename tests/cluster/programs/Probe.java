// The probe (see probe.c) in Java. The host name comes from the file: the JVM asks the resolver otherwise.
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.HexFormat;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

public class Probe {
    static String look(String name) throws Exception {
        Path path = Path.of(name);
        Map<String, Object> st;
        try {
            st = Files.readAttributes(path, "unix:mode,uid,gid,size,lastModifiedTime,ino,nlink", LinkOption.NOFOLLOW_LINKS);
        } catch (java.nio.file.NoSuchFileException error) {
            return name + " errno 2";
        }
        StringBuilder line = new StringBuilder(String.format("%s %o %s %s %s %d %s %s", name, (Integer) st.get("mode"),
                st.get("uid"), st.get("gid"), st.get("size"),
                ((FileTime) st.get("lastModifiedTime")).to(TimeUnit.NANOSECONDS), st.get("ino"), st.get("nlink")));
        if (Files.isSymbolicLink(path)) line.append(" -> ").append(Files.readSymbolicLink(path));
        if (Files.isRegularFile(path)) line.append(" = ").append(HexFormat.of().formatHex(Files.readAllBytes(path)));
        if (Files.isDirectory(path)) {
            try (var entries = Files.list(path)) {
                line.append(" : ").append(entries.map(e -> e.getFileName().toString()).sorted().collect(Collectors.joining(",")));
            }
        }
        return line.toString();
    }

    public static void main(String[] words) throws Exception {
        for (String word : words) {
            if (word.startsWith("$")) {
                String value = System.getenv(word.substring(1));
                System.out.println("env " + word.substring(1) + (value == null ? " unset" : "=" + value));
            } else if (word.equals("@host")) {
                System.out.println("host " + Files.readString(Path.of("/etc/hostname")).strip());
            } else {
                System.out.println(look(word));
            }
        }
    }
}
