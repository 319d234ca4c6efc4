// The web page: a server of HTTP and WebSockets, independent of the robot.
import { createServer, type Server } from 'node:http'
import { type WebSocket, WebSocketServer } from 'ws'

export interface Shown {
  brightness: number // 0 to 1
  pressed: boolean
  version: string
}

export interface Page {
  server: Server
  /** Sends the values to all open pages, if they have changed. */
  show(now: Shown): void
  /** Closes all WebSockets; the pages connect again by themselves. */
  close(): void
}

export function pageServer(setBrightness: (brightness: number) => void): Page {
  let shown = ''
  const server = createServer((request, answer) => {
    if (request.url === '/') answer.setHeader('Content-Type', 'text/html; charset=utf-8').end(HTML)
    else if (request.url === '/state') answer.setHeader('Content-Type', 'application/json').end(shown)
    else answer.writeHead(404).end()
  })
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', (socket: WebSocket) => {
    socket.send(shown)
    socket.on('message', (data) => {
      const brightness = Number(String(data))
      if (brightness >= 0 && brightness <= 1) setBrightness(brightness)
    })
    socket.on('error', () => socket.terminate())
  })
  return {
    server,
    show(now) {
      const text = JSON.stringify(now)
      if (text === shown) return
      shown = text
      for (const socket of sockets.clients) socket.send(shown)
    },
    close() {
      for (const socket of sockets.clients) socket.close(1001, 'another program comes')
    },
  }
}

const HTML = `<!doctype html>
<meta name="viewport" content="width=device-width">
<title>lamp</title>
<style>body { font: 1.2rem system-ui; max-width: 30rem; margin: 2rem auto; padding: 0 1rem } input { width: 100% }</style>
<h1>Lamp</h1>
<input id="brightness" type="range" min="0" max="1" step="0.01">
<p>The button is <b id="button">?</b>. Version <b id="version">?</b>, <span id="link">not connected</span>.</p>
<script>
  const at = (id) => document.getElementById(id)
  let socket
  at('brightness').oninput = () => socket.send(at('brightness').value)
  const connect = () => {
    socket = new WebSocket('ws://' + location.host)
    socket.onmessage = ({ data }) => {
      const { brightness, pressed, version } = JSON.parse(data)
      if (document.activeElement !== at('brightness')) at('brightness').value = brightness
      at('button').textContent = pressed ? 'pressed' : 'not pressed'
      at('version').textContent = version
      at('link').textContent = 'connected'
    }
    // another program took over, or the robot cannot be reached
    socket.onclose = () => {
      at('link').textContent = 'not connected'
      setTimeout(connect, 200)
    }
  }
  connect()
</script>
`
