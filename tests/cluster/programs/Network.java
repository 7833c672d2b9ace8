// The network probe (see network.c) in Java.
import java.io.FileInputStream;
import java.io.InputStream;
import java.net.ConnectException;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URL;
import java.net.UnixDomainSocketAddress;
import java.net.UnknownHostException;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.List;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Network {
    static final Path ACCOUNT = Path.of("/var/run/secrets/kubernetes.io/serviceaccount");
    static final byte[] QUESTION = "GET / HTTP/1.0\r\n\r\n".getBytes();

    static String body(InputStream stream) throws Exception {
        String text = new String(stream.readAllBytes());
        return text.substring(text.indexOf("\r\n\r\n") + 4).strip();
    }

    static String tcp(InetSocketAddress place) throws Exception {
        if (place.isUnresolved()) throw new UnknownHostException();
        try (Socket socket = new Socket()) {
            socket.connect(place);
            socket.getOutputStream().write(QUESTION);
            return body(socket.getInputStream()) + " from " + socket.getLocalAddress().getHostAddress() + " to "
                + ((InetSocketAddress) socket.getRemoteSocketAddress()).getAddress().getHostAddress();
        }
    }

    static List<String> all(String host, int port) throws Exception {
        List<String> lines = new ArrayList<>();
        for (InetAddress address : InetAddress.getAllByName(host)) lines.add(tcp(new InetSocketAddress(address, port)));
        return lines;
    }

    static String udp(String host, int port) throws Exception {
        try (DatagramSocket socket = new DatagramSocket()) {
            socket.send(new DatagramPacket(QUESTION, QUESTION.length, InetAddress.getByName(host), port));
            DatagramPacket answer = new DatagramPacket(new byte[512], 512);
            socket.receive(answer);
            return new String(answer.getData(), 0, answer.getLength());
        }
    }

    static String unix(String path) throws Exception {
        try (SocketChannel channel = SocketChannel.open(UnixDomainSocketAddress.of(path))) {
            channel.write(java.nio.ByteBuffer.wrap(QUESTION));
            return body(Channels.newInputStream(channel));
        }
    }

    static String https(String url) throws Exception {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (InputStream file = new FileInputStream(ACCOUNT.resolve("ca.crt").toFile())) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        HttpsURLConnection connection = (HttpsURLConnection) new URL(url).openConnection();
        connection.setSSLSocketFactory(context.getSocketFactory());
        connection.setRequestProperty("Authorization", "Bearer " + Files.readString(ACCOUNT.resolve("token")));
        return new String(connection.getInputStream().readAllBytes()).replaceAll("\\s", "");
    }

    static List<String> lines(String[] parts) throws Exception {
        int port = parts.length > 2 ? Integer.parseInt(parts[2]) : 0;
        try {
            return switch (parts[0]) {
                case "tcp" -> List.of(tcp(new InetSocketAddress(parts[1], port)));
                case "all" -> all(parts[1], port);
                case "udp" -> List.of(udp(parts[1], port));
                case "unix" -> List.of(unix(parts[1]));
                default -> List.of(https(parts[1]));
            };
        } catch (UnknownHostException error) {
            return List.of("unknown");
        } catch (ConnectException error) {
            return List.of(error.getMessage().equals("Connection refused") ? "refused" : error.getMessage());
        }
    }

    public static void main(String[] words) throws Exception {
        for (String word : words) {
            String[] parts = word.split(",");
            for (String line : lines(parts)) System.out.println(parts[0] + " " + parts[1] + ": " + line);
        }
    }
}
