import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

/** A server in the place of the pod's application: Incoming PORT. */
class Incoming {
    public static void main(String[] words) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(words[0])), 0);
        server.createContext("/", asked -> {
            String client = asked.getRemoteAddress().getAddress().getHostAddress();
            String line = String.format("java %s %s from %s at %d%n", asked.getRequestMethod(),
                asked.getRequestURI(), client, asked.getLocalAddress().getPort());
            System.out.print(line);
            System.out.flush();
            asked.sendResponseHeaders(200, line.length());
            asked.getResponseBody().write(line.getBytes());
            asked.close();
        });
        server.start();
    }
}
