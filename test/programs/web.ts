// Serves its version on the port that the board gives it: at once, after a while, or as a stream that has no end.
import { createServer } from 'node:http'
import { robot } from 'medulla'
import { type WebSocket, WebSocketServer } from 'ws'

robot({ web: 'listen', led: 'output', enable: 'output' }, ({ web, led, enable, every, onLive, info }) => {
  if (enable.value === 0) enable.write(1)
  const server = createServer((request, answer) => {
    if (request.url === '/slow') setTimeout(() => answer.end(info.version), 5)
    else if (request.url === '/endless') answer.write('on and on')
    else answer.end(info.version)
  })
  const sockets = new WebSocketServer({ server })
  const polite = new Set<WebSocket>()
  sockets.on('connection', (socket, request) => {
    if (request.url === '/polite') polite.add(socket)
    socket.send(info.version)
  })
  onLive(() => () => {
    for (const socket of polite) socket.close(1001)
  })
  web.serve(server)
  every(2, () => led.write(!led.value))
})
