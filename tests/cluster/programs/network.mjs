// The network probe (see network.c) in Node.
import dgram from "node:dgram";
import dns from "node:dns/promises";
import fs from "node:fs";
import https from "node:https";
import net from "node:net";

const account = "/var/run/secrets/kubernetes.io/serviceaccount/";
const question = "GET / HTTP/1.0\r\n\r\n";

async function body(stream) {
  let text = "";
  for await (const data of stream) text += data;
  return text.slice(text.indexOf("\r\n\r\n") + 4).trim();
}

function connected(where) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(where, () => {
      const own = socket.localAddress, peer = socket.remoteAddress;
      socket.write(question);
      body(socket).then((words) => resolve(where.path ? words : `${words} from ${own} to ${peer}`), reject);
    });
    socket.on("error", reject);
  });
}

const ways = {
  tcp: async (host, port) => [await connected({ host, port })],
  all: async (host, port) => {
    const found = await dns.lookup(host, { all: true });
    return Promise.all(found.map(({ address }) => connected({ host: address, port })));
  },
  udp: (host, port) => new Promise((resolve, reject) => {
    const socket = dgram.createSocket(host.includes(":") ? "udp6" : "udp4");
    socket.on("error", reject);
    socket.on("message", (data) => { socket.close(); resolve([data.toString()]); });
    socket.send(question, port, host);
  }),
  unix: async (path) => [await connected({ path })],
  https: (url) => new Promise((resolve, reject) => {
    const headers = { Authorization: `Bearer ${fs.readFileSync(account + "token")}` };
    const asked = https.get(url, { ca: fs.readFileSync(account + "ca.crt"), headers }, async (answer) => {
      let text = "";
      for await (const data of answer) text += data;
      resolve([text.replace(/\s/g, "")]);
    });
    asked.on("error", reject);
  }),
};

const failures = { ECONNREFUSED: "refused", ENOTFOUND: "unknown" };
for (const word of process.argv.slice(2)) {
  const [kind, ...place] = word.split(",");
  const lines = await ways[kind](...place).catch((error) => [failures[error.code] ?? String(error)]);
  for (const line of lines) console.log(`${kind} ${place[0]}: ${line}`);
}
