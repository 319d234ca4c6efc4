// A line on the control descriptor that never ends.
import { writeSync } from 'node:fs'
import { robot } from 'medulla'

const PART = 'a'.repeat(4096)

if (process.env.LANG !== undefined) {
  for (let i = 0; i < 64; i++) {
    try {
      writeSync(3, PART)
    } catch {
      // full: once more
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 60_000))
}

robot({ led: 'output', enable: 'output' }, ({ led, every }) => every(10, () => led.write(1)))
