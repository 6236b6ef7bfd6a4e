import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;

/**
 * FileClient URL FOLDER: fetches each file of the folder and posts it back, eight at a time, ten rounds for the small
 * ones. Prints how many requests were made and the bytes of their bodies, as JSON.
 */
public class FileClient {
    private static final HttpClient client = HttpClient.newHttpClient();

    public static void main(String[] arguments) throws Exception {
        var base = URI.create(arguments[0]);
        var requests = new ArrayList<Callable<Long>>();
        try (var files = Files.list(Path.of(arguments[1]))) {
            for (var file : files.toList()) {
                var rounds = Files.size(file) < 1 << 20 ? 10 : 1;
                for (var round = 0; round < rounds; round++) {
                    requests.add(() -> fetch(base, file));
                    requests.add(() -> post(base, file));
                }
            }
        }
        var threads = Executors.newFixedThreadPool(8);
        var bytes = 0L;
        for (var result : threads.invokeAll(requests)) bytes += result.get();
        threads.shutdown();
        System.out.printf("{\"requests\": %d, \"bytes\": %d}%n", requests.size(), bytes);
    }

    private static long fetch(URI base, Path file) throws Exception {
        var request = HttpRequest.newBuilder(base.resolve("/" + file.getFileName())).build();
        var answer = client.send(request, BodyHandlers.ofByteArray());
        check(answer.statusCode(), digestOf(answer.body()), file);
        return answer.body().length;
    }

    private static long post(URI base, Path file) throws Exception {
        var request = HttpRequest.newBuilder(base).POST(HttpRequest.BodyPublishers.ofFile(file)).build();
        var answer = client.send(request, BodyHandlers.ofString());
        check(answer.statusCode(), answer.body(), file);
        return Files.size(file);
    }

    private static void check(int status, String digest, Path file) throws Exception {
        if (status != 200 || !digest.equals(digestOf(Files.readAllBytes(file)))) {
            throw new IllegalStateException(file.getFileName() + ": status " + status + ", digest " + digest);
        }
    }

    private static String digestOf(byte[] bytes) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    }
}
