// Counts in a file of its data folder, and fills it when a parameter says so.
import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { robot } from 'medulla'

robot({
  needs: { led: 'output' },
  params: { fill: false },
  run({ led, info, params, every, log }) {
    const file = join(info.dataDir, 'count')
    const text = () => (existsSync(file) ? readFileSync(file, 'utf8') : '0')
    log(`data ${info.version}: found ${text()} in ${readdirSync(info.dataDir).join()}`)
    every(50, () => {
      led.write(!led.value)
      writeFileSync(file, String(Number(text()) + 1))
      if (params.fill && Number(text()) % 2 === 0) appendFileSync(join(info.dataDir, 'large'), Buffer.alloc(2 ** 20))
    })
  },
})
