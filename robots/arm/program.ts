// Carries a thing from one side to the other each time the button is pressed.
import { robot } from 'medulla'
import { Button } from 'medulla/drivers'

/** Angles in degrees; a joint without an angle stays where it is. Change an angle while the arm works. */
interface Step {
  name: string
  to: { base?: number; shoulder?: number; elbow?: number; gripper?: number }
  /** The gripper holds the thing: the program must not be replaced before it has put the thing down. */
  loaded?: boolean
}
const OPEN = 80
const CLOSED = 20
const REST: Step = { name: 'rests', to: { base: 90, shoulder: 90, elbow: 90, gripper: OPEN } }
const STEPS: readonly Step[] = [
  REST,
  { name: 'turns to the thing', to: { base: 30 } },
  { name: 'reaches down', to: { shoulder: 50, elbow: 130 } },
  { name: 'grips', to: { gripper: CLOSED }, loaded: true },
  { name: 'lifts', to: { shoulder: 90, elbow: 90 }, loaded: true },
  { name: 'turns', to: { base: 150 }, loaded: true },
  { name: 'puts it down', to: { shoulder: 50, elbow: 130 }, loaded: true },
  { name: 'lets go', to: { gripper: OPEN } },
  { name: 'draws back', to: { shoulder: 90, elbow: 90 } },
]

robot({
  needs: { base: 'servo', shoulder: 'servo', elbow: 'servo', gripper: 'servo', button: 'input' },
  // Angles need not be in the state: a servo handle knows the last written value, also of the program before.
  state: {
    version: 1,
    initial: () => ({
      step: 0, // of STEPS
      waited: 0, // seconds since the joints have reached this step
      carried: 0, // number of things carried
    }),
  },
  params: {
    pause: { value: 0.3, min: 0, max: 5, unit: 's' }, // between two steps, because a servo lags behind its signal
  },
  run({ base, shoulder, elbow, gripper, button, state, params, every, hold, log, info }) {
    const joints = { base, shoulder, elbow, gripper }
    // A new version with fewer steps may get a step number that it does not have.
    const current = () => STEPS[state.step] ?? REST

    let release: (() => void) | null = null
    const enter = (step: number) => {
      Object.assign(state, { step, waited: 0 })
      log(current().name)
      guard()
    }
    const guard = () => {
      if (current().loaded) release ??= hold('the gripper holds something')
      else {
        release?.()
        release = null
      }
    }

    // Also after a crash the gripper may hold the thing.
    guard()
    if (info.tookOver) log(`goes on: ${current().name}`)

    new Button(button).onPress(() => {
      if (current() === REST) enter(1)
      else log('is busy', 'warn')
    })

    every(20, (dt) => {
      let there = true
      for (const [name, angle] of Object.entries(current().to)) {
        const joint = joints[name as keyof typeof joints]
        // The joint turns at the speed that the board file allows (slew); `value` is where it is now.
        joint.write(angle)
        if (Math.abs(joint.value - angle) > 0.5) there = false
      }
      state.waited = there ? state.waited + dt : 0
      if (current() === REST || state.waited < params.pause) return
      if (state.step < STEPS.length - 1) return enter(state.step + 1)
      state.carried++
      log(`has carried ${state.carried}`)
      enter(0)
    })
  },
})
