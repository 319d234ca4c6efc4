import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import koffi from 'koffi'
import { expect, onTestFinished, test } from 'vitest'
import { isClockSynchronised, Timedated } from '../../../runtime/plumbing/clock.ts'

const STA_UNSYNC = 0x40

test('BUNDLE 10.13: the clock counts as synchronised when the kernel reports an error of less than 16 s', () => {
  // adjtimex(2), with the compiler's layout of the structure
  koffi.struct('timex', {
    modes: 'uint',
    offset: 'long',
    freq: 'long',
    maxerror: 'long',
    esterror: 'long',
    status: 'int',
    rest: koffi.array('uint8_t', 256),
  })
  const adjtimex = koffi.load('libc.so.6').func('int adjtimex(_Inout_ timex *timex)')
  const timex: Record<string, unknown> = { modes: 0, offset: 0, freq: 0, maxerror: 0, esterror: 0, status: 0 }
  timex.rest = new Uint8Array(256)
  expect(adjtimex(timex)).toBeGreaterThanOrEqual(0)
  expect(isClockSynchronised()).toBe(Number(timex.maxerror) < 16_000_000)
  // an unsynchronised kernel sets both error and status; chrony without rtcsync changes only the status
  if ((Number(timex.status) & STA_UNSYNC) === 0) expect(isClockSynchronised()).toBe(true)
})

test('a time service that only timedated knows is asked in the background', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-timedated-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const command = (text: string) => {
    const file = join(folder, 'timedatectl')
    writeFileSync(file, `#!/bin/sh\n[ "$*" = 'show --property=NTPSynchronized --value' ] && ${text}\n`, { mode: 0o755 })
    return new Timedated(file)
  }
  const yes = command('echo yes')
  expect(yes.answer()).toBe(null)
  await expect.poll(() => yes.answer()).toBe(true)
  const no = command('echo no')
  await expect.poll(() => no.answer()).toBe(false)
  const absent = new Timedated(join(folder, 'absent'))
  absent.answer()
  await new Promise((resolve) => setTimeout(resolve, 100))
  expect(absent.answer()).toBe(null)
})
