// SPDX-License-Identifier: GPL-2.0
/*
 * A PWM chip of 4 channels that drives nothing and records what it is told, in debugfs:
 *
 *   medulla_pwm/N/applies            calls of apply()
 *   medulla_pwm/N/period_ns, duty_ns, enabled, inverted                                the state last applied
 *   medulla_pwm/N/period_changes, duty_changes, enabled_changes, inverted_changes      applies that changed it
 *   medulla_pwm/N/requests, frees    exports (or other requests) of the channel, and their ends
 *
 * Counters are set to nought by writing 0.
 */
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/pwm.h>

#define CHANNELS 4

struct channel {
	u64 period_ns, duty_ns;
	u32 enabled, inverted;
	u32 applies, period_changes, duty_changes, enabled_changes, inverted_changes;
	u32 requests, frees;
};

static struct channel channels[CHANNELS];
static struct platform_device *parent;
static struct pwm_chip *chip;
static struct dentry *root;

static int apply(struct pwm_chip *of, struct pwm_device *pwm, const struct pwm_state *state)
{
	struct channel *channel = &channels[pwm->hwpwm];
	u32 inverted = state->polarity == PWM_POLARITY_INVERSED;

	channel->applies++;
	channel->period_changes += channel->period_ns != state->period;
	channel->duty_changes += channel->duty_ns != state->duty_cycle;
	channel->enabled_changes += channel->enabled != state->enabled;
	channel->inverted_changes += channel->inverted != inverted;
	channel->period_ns = state->period;
	channel->duty_ns = state->duty_cycle;
	channel->enabled = state->enabled;
	channel->inverted = inverted;
	return 0;
}

static int state_of(struct pwm_chip *of, struct pwm_device *pwm, struct pwm_state *state)
{
	struct channel *channel = &channels[pwm->hwpwm];

	state->period = channel->period_ns;
	state->duty_cycle = channel->duty_ns;
	state->enabled = channel->enabled;
	state->polarity = channel->inverted ? PWM_POLARITY_INVERSED : PWM_POLARITY_NORMAL;
	return 0;
}

static int request(struct pwm_chip *of, struct pwm_device *pwm)
{
	channels[pwm->hwpwm].requests++;
	return 0;
}

static void release(struct pwm_chip *of, struct pwm_device *pwm)
{
	channels[pwm->hwpwm].frees++;
}

static const struct pwm_ops ops = {
	.request = request,
	.free = release,
	.apply = apply,
	.get_state = state_of,
};

static void expose(int number)
{
	struct channel *channel = &channels[number];
	struct dentry *folder;
	char name[4];

	snprintf(name, sizeof(name), "%d", number);
	folder = debugfs_create_dir(name, root);
	debugfs_create_u64("period_ns", 0444, folder, &channel->period_ns);
	debugfs_create_u64("duty_ns", 0444, folder, &channel->duty_ns);
	debugfs_create_u32("enabled", 0444, folder, &channel->enabled);
	debugfs_create_u32("inverted", 0444, folder, &channel->inverted);
	debugfs_create_u32("applies", 0644, folder, &channel->applies);
	debugfs_create_u32("period_changes", 0644, folder, &channel->period_changes);
	debugfs_create_u32("duty_changes", 0644, folder, &channel->duty_changes);
	debugfs_create_u32("enabled_changes", 0644, folder, &channel->enabled_changes);
	debugfs_create_u32("inverted_changes", 0644, folder, &channel->inverted_changes);
	debugfs_create_u32("requests", 0644, folder, &channel->requests);
	debugfs_create_u32("frees", 0644, folder, &channel->frees);
}

static int __init medulla_pwm_init(void)
{
	int i, error;

	parent = platform_device_register_simple("medulla_pwm", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(parent))
		return PTR_ERR(parent);
	chip = pwmchip_alloc(&parent->dev, CHANNELS, 0);
	if (IS_ERR(chip)) {
		error = PTR_ERR(chip);
		goto no_chip;
	}
	chip->ops = &ops;
	error = pwmchip_add(chip);
	if (error)
		goto not_added;
	root = debugfs_create_dir("medulla_pwm", NULL);
	for (i = 0; i < CHANNELS; i++)
		expose(i);
	return 0;

not_added:
	pwmchip_put(chip);
no_chip:
	platform_device_unregister(parent);
	return error;
}

static void __exit medulla_pwm_exit(void)
{
	debugfs_remove(root);
	pwmchip_remove(chip);
	pwmchip_put(chip);
	platform_device_unregister(parent);
}

module_init(medulla_pwm_init);
module_exit(medulla_pwm_exit);
MODULE_DESCRIPTION("A PWM chip that records what it is told, for tests");
MODULE_LICENSE("GPL");
