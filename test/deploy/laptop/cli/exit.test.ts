import { expect, test } from 'vitest'
import { EXIT, EXIT_MEANING, exitForCode, exitForOutcome } from '../../../../deploy/laptop/cli/exit.ts'
import { REFUSAL_CODES, type RefusalCode } from '../../../../deploy/shared/errors.ts'

const BY_EXIT: Readonly<Record<number, readonly RefusalCode[]>> = {
  [EXIT.ok]: ['already-installed'],
  [EXIT.internal]: ['internal'],
  [EXIT.usage]: ['usage', 'bad-scenario'],
  [EXIT.undone]: [
    ...(['never-ready', 'died-at-start', 'died-in-trial', 'heartbeat-lost', 'unhealthy', 'migrate-failed'] as const),
    ...([
      'bad-state',
      'yield-timeout',
      'takeover-failed',
      'fence-failed',
      'too-late',
      'left-cgroup',
      'crashed',
    ] as const),
  ],
  [EXIT.unreachable]: ['unreachable', 'body-away'],
  [EXIT.build]: ['build-failed'],
  [EXIT.failed]: ['scenario-failed'],
  [EXIT.timeout]: ['scenario-timeout'],
  [EXIT.interrupted]: ['interrupted'],
}

test.each([...REFUSAL_CODES])('P11: the refusal %s has an exit code', (code) => {
  const listed = Object.entries(BY_EXIT).find(([, codes]) => codes.includes(code))
  expect(exitForCode(code)).toBe(listed === undefined ? EXIT.refused : Number(listed[0]))
})

test('P11: the exit codes keep their numbers, and each has a description', () => {
  expect(EXIT).toEqual({
    ok: 0,
    internal: 1,
    usage: 2,
    refused: 3,
    undone: 4,
    unreachable: 5,
    build: 6,
    failed: 7,
    timeout: 8,
    interrupted: 130,
  })
  expect(Object.keys(EXIT_MEANING)).toEqual(Object.keys(EXIT))
})

test("P11: the exit code follows the push's outcome before its reason", () => {
  expect(exitForOutcome('committed', undefined)).toBe(0)
  expect(exitForOutcome('stopped', undefined)).toBe(0)
  expect(exitForOutcome('rolled-back', 'internal')).toBe(4)
  expect(exitForOutcome('called-off', 'yield-timeout')).toBe(4)
  expect(exitForOutcome('refused', 'not-newer')).toBe(3)
  expect(exitForOutcome('refused', 'already-installed')).toBe(0)
  expect(exitForOutcome('refused', undefined)).toBe(3)
})
