import type { RobotFacts } from '../../../../deploy/shared/bundle/policy.ts'

export function factsOf(over: Partial<RobotFacts> = {}): RobotFacts {
  return {
    robot: `SHA256:${'A'.repeat(43)}`,
    arch: 'arm64',
    node: 'v20.20.2',
    now: 1_800_000_000_000,
    clockSynced: true,
    slot: 'main',
    floor: 0,
    committed: null,
    tried: null,
    retry: false,
    handles: { led: 'output', button: 'input' },
    leased: {},
    config: new Set(),
    wire: 1,
    ...over,
  }
}
