// Connects to each HOST:PORT given, one after the other, and prints as outgoing.go does; then UDP.
const net = require('net')
const dgram = require('dgram')

function visit(places) {
  if (!places.length) return datagram()
  const [host, port] = places[0].split(':')
  const socket = net.connect(Number(port), host)
  let text = ''
  socket.on('connect', () => socket.write('ping\n'))
  socket.on('error', (error) => { console.log(error.code); visit(places.slice(1)) })
  socket.on('data', (data) => {
    text += data
    if (text.split('\n').length < 3) return
    const [seen, answer] = text.split('\n')
    console.log(`${socket.remoteAddress}:${socket.remotePort} ${seen.startsWith(socket.localAddress + ' ')} ${answer}`)
    socket.end()
    visit(places.slice(1))
  })
}

function datagram() {
  const socket = dgram.createSocket('udp4')
  socket.on('message', (data, from) => { console.log(`${data} ${from.address}:${from.port}`); socket.close() })
  socket.send('node', 7010, '10.77.0.1')
}

visit(process.argv.slice(2))
