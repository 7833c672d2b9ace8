// Resolves names with both of Node's resolvers, libuv's getaddrinfo and c-ares; prints names.py's table.
import dns from 'node:dns/promises';

const table = {};
for (const name of process.argv.slice(2)) {
  try {
    table[name] = (await dns.lookup(name, { all: true })).map((found) => found.address).sort();
  } catch (error) {
    table[name] = error.code;
  }
  try {
    table[`A ${name}`] = (await dns.resolve4(name)).sort();
  } catch (error) {
    table[`A ${name}`] = error.code;
  }
}
table['TXT big'] = (await dns.resolveTxt('big.demo.svc.cluster.local'))[0].length;
table.MX = await dns.resolveMx('mail.demo.svc.cluster.local');
table.SOA = await dns.resolveSoa('v4only.demo.svc.cluster.local').catch((error) => error.code);
table.SRV = await dns.resolveSrv('_http._tcp.api.demo.svc.cluster.local');
table.PTR = await dns.reverse('10.77.0.1');
table.servers = dns.getServers();
console.log(JSON.stringify(table));
