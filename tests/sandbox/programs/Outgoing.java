// Connects to each HOST:PORT given, blocking and by a channel, and prints as outgoing.go does; then UDP.
import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;

class Outgoing {
    public static void main(String[] places) throws Exception {
        for (String place : places) {
            String[] parts = place.split(":");
            InetSocketAddress address = new InetSocketAddress(parts[0], Integer.parseInt(parts[1]));
            try (Socket socket = new Socket()) {
                socket.connect(address, 20000);
                BufferedReader reader = new BufferedReader(new InputStreamReader(socket.getInputStream()));
                String seen = reader.readLine();
                socket.getOutputStream().write("ping\n".getBytes());
                System.out.println(socket.getRemoteSocketAddress().toString().substring(1) + " "
                    + seen.startsWith(socket.getLocalAddress().getHostAddress() + " ") + " " + reader.readLine());
            } catch (ConnectException error) {
                System.out.println(error.getMessage());
            }
        }
        try (SocketChannel channel = SocketChannel.open(new InetSocketAddress("10.77.0.1", 7001))) {
            System.out.println(channel.getRemoteAddress().toString().substring(1));
        }
        try (DatagramSocket socket = new DatagramSocket()) {
            socket.setSoTimeout(20000);
            byte[] data = "java".getBytes();
            socket.send(new DatagramPacket(data, data.length, InetAddress.getByName("10.77.0.1"), 7010));
            DatagramPacket answer = new DatagramPacket(new byte[100], 100);
            socket.receive(answer);
            System.out.println(new String(answer.getData(), 0, answer.getLength()) + " "
                + answer.getSocketAddress().toString().substring(1));
        }
    }
}
