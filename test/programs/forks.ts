// Starts a process with each tick, 20 of them; each leaves the process group, ignores what can be ignored, and stays.
import { spawn } from 'node:child_process'
import { robot } from 'medulla'

const STAY = "process.on('SIGTERM', () => {}); process.on('SIGHUP', () => {}); setInterval(() => {}, 1000)"

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, dial, enable, state, every, info }) {
    if (enable.value === 0) enable.write(1)
    let ticks = 0
    every(5, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      led.write(1)
      ticks += 1
      if (info.program === 'describe' || ticks <= 10 || ticks > 30) return
      // a session of its own, whose parent will be gone
      const child = spawn(process.execPath, ['-e', STAY], { detached: true, stdio: 'inherit' })
      child.on('error', () => {})
      child.unref()
    })
  },
})
