/** Before the files of the rig. */
import { inRig } from './guest.ts'
import { holdTracepoints } from './trace.ts'

if (inRig) holdTracepoints()
