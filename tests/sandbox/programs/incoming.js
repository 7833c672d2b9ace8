// Serves HTTP on the port given, itself or by two workers of a cluster: each client is told what the server sees of it.
const cluster = require('cluster'), http = require('http'), [port, workers] = process.argv.slice(2).map(Number);

if (workers && cluster.isPrimary) {
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  const server = http.createServer((request, answer) => {
    const socket = request.socket;
    answer.end(`${socket.remoteAddress}:${socket.remotePort} ${socket.localAddress}:${socket.localPort} `
      + server.address().port);
  });
  server.listen(port, '0.0.0.0');
}
