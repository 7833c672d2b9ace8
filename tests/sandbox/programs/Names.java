import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.TreeSet;

/** Resolves names with Java's InetAddress, and with its own resolver for other types (JNDI, over UDP). */
public class Names {
    public static void main(String[] names) throws Exception {
        for (String name : names) {
            TreeSet<String> found = new TreeSet<>();
            try {
                for (InetAddress address : InetAddress.getAllByName(name)) found.add(address.getHostAddress());
            } catch (UnknownHostException error) {
                found.add(error.getMessage());
            }
            System.out.println(name + " " + found);
        }
        var context = new javax.naming.directory.InitialDirContext();
        var answer = context.getAttributes("dns:/mail.demo.svc.cluster.local", new String[] {"MX"});
        System.out.println(answer.get("MX"));
    }
}
