// A server in the place of the pod's application: incoming.mjs NAME PORT WORKERS; 0: none but the process itself.
import cluster from "node:cluster";
import http from "node:http";

const [name, port, workers] = process.argv.slice(2);

if (cluster.isPrimary && Number(workers) > 0) {
  for (let each = 0; each < Number(workers); each++) cluster.fork();
} else {
  http.createServer((asked, answer) => {
    const client = asked.socket.remoteAddress.replace("::ffff:", "");
    const line = `${name} ${asked.method} ${asked.url} from ${client} at ${asked.socket.localPort}\n`;
    process.stdout.write(line);
    answer.end(line);
  }).listen(Number(port));
}
