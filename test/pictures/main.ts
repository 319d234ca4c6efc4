/**
 * `npm run pictures [-- --pushes N] [--out FOLDER]`: records pushes on a simulated robot, and draws one of them anew for the
 * front page and for deploy/README.md. It needs `script` of util-linux.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { DIST } from '../bench/rig.ts'
import { drawPush } from './push.ts'
import { record } from './record.ts'
import { drawTerminal } from './terminal.ts'

const { values } = parseArgs({
  options: { pushes: { type: 'string', default: '9' }, out: { type: 'string', default: join(DIST, '..') } },
})
const pushes = Number(values.pushes)
if (!Number.isInteger(pushes) || pushes < 1) throw new Error(`expected a number of pushes, got ${values.pushes}`)

const recording = await record(pushes, (text) => process.stderr.write(`${text}\n`))
for (const [path, drawn] of [
  ['runtime/push.svg', drawPush(recording)],
  ['deploy/push-terminal.svg', drawTerminal(recording.terminal, 'A push, and the status of the robot after it')],
] as const) {
  const file = resolve(values.out, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, drawn)
  process.stdout.write(`${file}: ${Buffer.byteLength(drawn)} bytes\n`)
}
