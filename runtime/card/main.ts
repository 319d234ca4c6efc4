/**
 * `node main.js --boot DIR --data DIR --home DIR`: run by pi-image/root/usr/lib/medulla-card/setup when a card starts for the first
 * time or its medulla.toml has changed. What it prints is shown on the robot's console.
 */
import { parseArgs } from 'node:util'
import { applySettings } from './apply.ts'

const text = { type: 'string' } as const
const { values } = parseArgs({ options: { boot: text, data: text, home: text } })
const { boot = '/boot/firmware', data = '/data', home = '/var/lib/medulla' } = values
const { applied, report } = await applySettings({ boot, data, home })
process.stdout.write(report.map((line) => `${line}\n`).join(''))
process.exitCode = applied ? 0 : 3
