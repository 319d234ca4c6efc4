// Sends the runtime as much as its socket takes, past the SDK: version 1.1.0 lines of log, 1.2.0 that it is unhealthy,
// 1.3.0 heartbeats, 1.4.0 checkpoints that nobody asked for.
import { writeSync } from 'node:fs'
import { robot } from 'medulla'

const ROOT = '0'.repeat(64)
const SNAPSHOT = { metaLength: 10, chunkCount: 1, length: 10, root: ROOT }
const MESSAGES: Record<string, object> = {
  '1.1.0': { t: 'log', level: 'info', text: 'x'.repeat(60) },
  '1.2.0': { t: 'unhealthy', reason: 'x' },
  '1.3.0': { t: 'hb', ticks: 1, lateUs: 0, overruns: 0 },
  '1.4.0': { t: 'checkpoint', n: 0, snapshot: SNAPSHOT, stateVersion: 1, encoding: 'json' },
}

robot({
  needs: { tail: 'output' },
  run({ tail, every, info }) {
    const line = `${JSON.stringify(MESSAGES[info.version] ?? {})}\n`
    const lines = Buffer.from(line.repeat(100))
    let ticks = 0
    every(1, () => {
      tail.write(1)
      // after its trial
      if (ticks++ < 300) return
      try {
        for (let i = 0; i < 100; i++) writeSync(3, lines)
      } catch {
        // the socket is full
      }
    })
  },
})
