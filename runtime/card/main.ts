/**
 * `node main.js --boot DIR --data DIR --home DIR`: run by pi-image/root/usr/lib/medulla-card/setup when a card starts for the first
 * time or its medulla.toml has changed. What it prints is shown on the robot's console.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { applySettings, publishCard } from './apply.ts'

const text = { type: 'string' } as const
const { values } = parseArgs({ options: { boot: text, data: text, home: text } })
const { boot = '/boot/firmware', data = '/data', home = '/var/lib/medulla' } = values
const places = { boot, data, home }
if (existsSync(join(boot, 'medulla.toml'))) {
  const { applied, report } = await applySettings(places)
  process.stdout.write(report.map((line) => `${line}\n`).join(''))
  process.exitCode = applied ? 0 : 3
} else {
  process.stdout.write(`this robot is ${await publishCard(places)}; there is no medulla.toml on its card\n`)
}
