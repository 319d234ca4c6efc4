// Preloaded into a runtime: while the file MEDULLA_TEST_FAULT exists, the next endpoint is hostile.mjs, which sends the file's lines.
import child_process from 'node:child_process'
import { existsSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { fileURLToPath } from 'node:url'

const { MEDULLA_TEST_FAULT: lines = '' } = process.env
const HOSTILE = fileURLToPath(new URL('hostile.mjs', import.meta.url))
const { spawn } = child_process

child_process.spawn = (file, args, options) => {
  const at = args?.findIndex((word) => word.endsWith('endpoint/main.js')) ?? -1
  return spawn(file, at >= 0 && existsSync(lines) ? args.toSpliced(at, 1, HOSTILE, lines) : args, options)
}
syncBuiltinESMExports()
