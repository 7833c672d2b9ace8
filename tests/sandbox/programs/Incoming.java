// Listens on the port given and tells two clients what it sees of them: by a ServerSocket that waits, and by a channel.
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;

class Incoming {
    static String words(Socket socket) {
        return socket.getRemoteSocketAddress().toString().substring(1) + " "
            + socket.getLocalSocketAddress().toString().substring(1);
    }

    public static void main(String[] words) throws Exception {
        int port = Integer.parseInt(words[0]);
        try (ServerSocket server = new ServerSocket(port); Socket socket = server.accept()) {
            socket.getInputStream().read(new byte[4096]);
            socket.getOutputStream().write((words(socket) + " " + server.getLocalPort()).getBytes());
        }
        try (ServerSocketChannel server = ServerSocketChannel.open().bind(new InetSocketAddress(port));
                SocketChannel channel = server.accept()) {
            channel.read(ByteBuffer.allocate(4096));
            channel.write(ByteBuffer.wrap((words(channel.socket()) + " " + server.getLocalAddress()).getBytes()));
        }
    }
}
