// Prints a file's content, its size, the number of its folder's entries and the host name of the kernel.
import java.nio.file.Path;

class Main {
    public static void main(String[] words) throws Exception {
        Path path = Path.of(words[0]), folder = Path.of(words[1]);
        try (var entries = java.nio.file.Files.list(folder)) {
            System.out.print(java.nio.file.Files.readString(path) + java.nio.file.Files.size(path) + " "
                + entries.count() + " " + new String(new ProcessBuilder("uname", "-n").start().getInputStream().readAllBytes()));
        }
    }
}
