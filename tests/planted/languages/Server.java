// `java Server.java PORT BUG` serves KV/1.0 to the letter of the course document, with one bug or with none.
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;

public class Server {
    static String bug;
    static final Map<String, String> store = new HashMap<>();
    static final Map<String, Integer> counts = new HashMap<>();
    static final long started = System.nanoTime();

    public static void main(String[] args) throws Exception {
        bug = args[1];
        try (ServerSocket listener = new ServerSocket(Integer.parseInt(args[0]), 1024, InetAddress.getByName("127.0.0.1"))) {
            while (true) {
                Socket socket = listener.accept();
                new Thread(() -> serve(socket)).start();
            }
        }
    }

    static void serve(Socket socket) {
        count("open", 1);
        try (socket) {
            socket.setTcpNoDelay(true);
            InputStream in = socket.getInputStream();
            ByteArrayOutputStream line = new ByteArrayOutputStream();
            byte[] data = new byte[65536];
            for (int n; (n = in.read(data)) >= 0;) {
                for (int i = 0; i < n; i++) {
                    if (data[i] != '\n') {
                        line.write(data[i]);
                        continue;
                    }
                    // Latin-1 keeps every byte as it is.
                    String reply = answer(line.toString(StandardCharsets.ISO_8859_1));
                    count("done", 1);
                    line.reset();
                    socket.getOutputStream().write((reply + "\n").getBytes(StandardCharsets.ISO_8859_1));
                    if (reply.equals("200 OK bye")) return;
                }
            }
        } catch (IOException | RuntimeException error) {
            // This client has gone, or its request was more than the server can bear.
        } finally {
            count("open", -1);
        }
    }

    static synchronized void count(String name, int by) {
        counts.merge(name, by, Integer::sum);
    }

    static synchronized int counted(String name) {
        return counts.getOrDefault(name, 0);
    }

    static String stats() {
        long s = (System.nanoTime() - started) / 1_000_000_000;
        return String.format("200 OK uptime: %d:%02d:%02d; connections: %d; commands_processed: %d; get_requests: %d; "
            + "put_requests: %d; del_requests: %d; keys_stored: %d", s / 3600, s / 60 % 60, s % 60, counted("open"),
            counted("done"), counted("GET"), counted("PUT"), counted("DEL"), store.size());
    }

    static String answer(String line) {
        String[] words = (line.endsWith("\r") ? line.substring(0, line.length() - 1) : line).split(" ", 4);
        if (!words[0].equals("KV/1.0")) return "426 UPGRADE_REQUIRED";
        String command = bug.equals("exception-ends-connection") ? words[1] : words.length > 1 ? words[1] : "";
        if (command.equals("STATS") && words.length == 2) return stats();
        if (command.equals("QUIT") && words.length == 2) return "200 OK bye";
        if (!command.matches("GET|PUT|DEL")) return "400 BAD_REQUEST";
        int needed = command.equals("PUT") ? 4 : 3;
        if (bug.equals("exception-ends-connection")) words[needed - 1].isEmpty();
        if (words.length != needed || words[2].isEmpty() || words[needed - 1].isEmpty()) return "400 BAD_REQUEST";
        count(command, 1);
        if (!bug.equals("check-then-put") || !command.equals("PUT")) {
            synchronized (store) {
                return run(command, words[2], words[needed - 1]);
            }
        }
        return run(command, words[2], words[3]);
    }

    static String run(String command, String key, String value) {
        boolean known = store.containsKey(key);
        if (command.equals("PUT")) {
            if (bug.equals("check-then-put")) pause();
            synchronized (store) {
                store.put(key, value);
            }
            return known ? "200 OK" : "201 CREATED";
        }
        if (!known) return bug.equals("del-always-204") && command.equals("DEL") ? "204 NO_CONTENT" : "404 NOT_FOUND";
        if (command.equals("GET")) return "200 OK " + store.get(key);
        store.remove(key);
        return "204 NO_CONTENT";
    }

    static void pause() {
        try {
            Thread.sleep(1); // the window of the planted race
        } catch (InterruptedException stop) {
            Thread.currentThread().interrupt();
        }
    }
}
