/**
 * Answers every question for robots in its network with lies, from the address of its first argument. The second one is the id of a
 * real robot. With `flood` it asks for robots 3,000 times instead, and prints what was answered in 4 s, as JSON.
 */
import { createSocket } from 'node:dgram'
import { decode, encode } from 'dns-packet'

const [address, id, flood] = process.argv.slice(2)
const GROUP = '224.0.0.251'
const SERVICE = '_medulla._tcp.local'

function robot(texts, port = 6666, name = `liar.${SERVICE}`) {
  const answers = [
    { type: 'SRV', name, data: { port, target: 'liar.local' } },
    { type: 'TXT', name, data: texts },
    { type: 'A', name: 'liar.local', data: '10.77.0.200' },
  ]
  return encode({ type: 'response', answers })
}
const texts = (name, own) => [`name=${name}`, `id=${own}`, 'version=6.6.6', 'protocol=medulla/2']
const idOf = (n) => `SHA256:${String(n).padStart(43, 'A')}`

const LIES = [
  // a real robot, at another port
  robot(texts('arm', id)),
  robot(texts('\x1b[2J\x1b]0;title\x07', idOf(1))),
  robot(texts('arm\nmedulla: error: gone', idOf(2))),
  robot(['name=arm', `id=${id}`, ...Array.from({ length: 30 }, () => 'x'.repeat(250))]),
  Buffer.from('rubbish'),
  // a name that points at itself, and 65,535 answers that are not there
  Buffer.from([0, 0, 0x84, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0xc0, 12, 0, 16, 0, 1]),
  ...Array.from({ length: 100 }, (_, n) => robot(texts(`false-${n}`, idOf(100 + n)), 7171, `f${n}.${SERVICE}`)),
]

const socket = createSocket({ type: 'udp4', reuseAddr: true })
const send = (bytes) => socket.send(bytes, 5353, GROUP, () => {})
const answers = []
const began = performance.now()

socket.on('message', (bytes, { address: from, port }) => {
  let packet
  try {
    packet = decode(bytes)
  } catch {
    return
  }
  if (flood !== undefined) {
    if (packet.type === 'response')
      answers.push({ from, port, ms: performance.now() - began, bytes: bytes.toString('hex') })
  } else if (packet.type === 'query') for (const lie of LIES) send(lie)
})
socket.bind(5353, '0.0.0.0', () => {
  socket.addMembership(GROUP, address)
  socket.setMulticastInterface(address)
  console.log('ready')
  if (flood === undefined) return
  const question = encode({ type: 'query', questions: [{ type: 'PTR', name: SERVICE }] })
  let left = 3000
  const ask = setInterval(() => {
    for (let n = 0; n < 30 && left > 0; n++, left--) send(n % 3 === 0 ? question : Buffer.alloc(1200, 7))
    if (left === 0) clearInterval(ask)
  }, 10)
  setTimeout(() => {
    console.log(JSON.stringify({ ms: performance.now() - began, answers }))
    process.exit(0)
  }, 4000)
})
