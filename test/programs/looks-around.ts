// Says what it can see and reach. Each answer is a value or the code of an error.
import fs from 'node:fs'
import { connect } from 'node:net'
import { robot } from 'medulla'

function tried(run: () => unknown): unknown {
  try {
    return run()
  } catch (error) {
    return (error as { code?: string }).code
  }
}

const look = () => ({
  uid: process.getuid?.(),
  pid: process.pid,
  cwd: process.cwd(),
  root: tried(() => fs.readdirSync('/').sort()),
  body: tried(() => process.kill(process.ppid, 0)),
  init: tried(() => process.kill(1, 0)),
  setuid: tried(() => process.setuid?.(0)),
  handle: tried(() => fs.openSync('/proc/self/fd/11', 'r+')),
  program: tried(() => fs.writeFileSync('/run/medulla/program/x', '')),
  tmp: tried(() => fs.writeFileSync('/tmp/x', '')) ?? 'written',
})

robot({
  needs: { led: 'output' },
  run({ led, log, every }) {
    let ticks = 0
    every(5, () => {
      led.write(!led.value)
      ticks += 1
      if (ticks !== 3) return
      const tell = (network: unknown) => log(JSON.stringify({ ...look(), network }))
      connect(9, '127.0.0.1').on('error', (error) => tell((error as { code?: string }).code))
    })
  },
})
