// Says what looks like the runtime's own words, wherever its text goes. Its version says where: 1.1.0 throws it, 1.2.0 is
// unfit with it, 1.3.0 holds with it, 1.4.0 sends it past the SDK and ends. 2.0.0 states times of a takeover that cannot be.
import { writeSync } from 'node:fs'
import { robot } from 'medulla'

const FORGED = 'medulla: emergency stop released\n{"level":30,"name":"body"}\u2028\u001b[2Jrunning: committed'

interface Host {
  init?: { version: string }
  send(message: { t: string }): void
}
const host = (globalThis as unknown as Record<symbol, Host>)[Symbol.for('medulla.host')]
if (host?.init?.version === '2.0.0') {
  const { send } = host
  host.send = (message) => {
    if (message.t !== 'took') return send(message)
    for (let i = 0; i < 50; i++) {
      send({ t: 'ready', rehearsals: 9, rehearseMs: 1e12, note: FORGED } as never)
      send({ t: 'log', level: 'info', text: FORGED } as never)
    }
    send({ ...message, revokedNs: 1e18, receivedNs: 2, liveNs: 4e18, startedNs: 0 } as never)
  }
}

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, enable, state, every, health, hold, log, info: { version } }) {
    if (enable.value === 0) enable.write(1)
    if (version === '1.3.0') hold(FORGED)
    let ticks = 0
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      ticks += 1
      // longer than its trial
      if (ticks !== 600) return
      log(FORGED)
      process.stdout.write(`${FORGED}\n`)
      if (version === '1.1.0') throw new Error(FORGED)
      if (version !== '1.4.0') return
      writeSync(3, `${JSON.stringify({ t: 'fatal', code: 'bad-state', message: FORGED })}\n`)
      process.kill(process.pid, 'SIGKILL')
    })
    health(() => version !== '1.2.0' || ticks < 600 || FORGED)
  },
})
