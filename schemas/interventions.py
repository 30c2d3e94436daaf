"""What recordings call the step columns that say who acted: LeRobot's DAgger data `intervention`, HIL data `is_intervention`."""

import re

FLAG = re.compile(r"(^|[._/])(is_)?intervention$", re.IGNORECASE)  # true while a person acts
POLICY_ACTION = re.compile(
    r"(^|[._/])policy_action$|(^|[._/])action[._/]policy$", re.IGNORECASE
)  # what the policy would have done
