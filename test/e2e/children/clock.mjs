/** Preloaded: shifts the clock of this process by MEDULLA_TEST_CLOCK_MS, or by the ms in a file beside its home. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

function offset() {
  const { MEDULLA_TEST_CLOCK_MS, MEDULLA_TEST_HOME } = process.env
  if (MEDULLA_TEST_CLOCK_MS !== undefined) return Number(MEDULLA_TEST_CLOCK_MS)
  try {
    return Number(readFileSync(join(MEDULLA_TEST_HOME ?? '/', '..', 'clock-ms'), 'utf8'))
  } catch {
    return 0
  }
}

const ms = offset()
const Right = Date
globalThis.Date = class extends Right {
  constructor(...args) {
    if (args.length === 0) super(Right.now() + ms)
    else super(...args)
  }
  static now() {
    return Right.now() + ms
  }
}
