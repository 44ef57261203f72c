"""The errors of the project, named by what happens next.

CampaignError
├── ConfigError         the input is wrong: one line, nothing was started (exit 2)
│   └── RowRefused      a constraint of the store refuses a row: it is sent no second time
├── Infeasible          nothing here can run it, or it exceeds the budget (exit 3)
├── StoreUnavailable    the store did not answer: waited for, then spooled
│   └── StoreRefused    it answered and let nobody in; a ConfigError where nothing has begun yet
├── NodeUnfit           this machine is not what it claims: it measures nothing
├── LeaseLost           somebody else owns the task now: stop, write nothing
├── EngineFault         the engine cannot load: its remaining tasks are quarantined
├── TaskFault           this attempt failed: counted, tried again if the kind allows, and the engine
│                       loaded anew unless it is known to be as it was
└── InvalidMeasurement  a gate voided the measurement: counted apart, tried again

Foreign exceptions become one of these once, in the adapter that owns the library.
"""

from __future__ import annotations

from db.readings import Measurement


class CampaignError(Exception):
    """Root of every error raised on purpose. `exit_code` is what a verb ends with."""

    exit_code = 4


class ConfigError(CampaignError):
    """Configuration or input is wrong. The message says what, where and how to fix it."""

    exit_code = 2


class RowRefused(ConfigError):
    """A constraint of the store refuses what a row says, as it would each time."""


class Infeasible(CampaignError):
    """Nothing here can run what was asked, or the budget does not allow it."""

    exit_code = 3


class StoreUnavailable(CampaignError):
    """The store did not answer; the statement may be repeated."""

    exit_code = 2


class StoreRefused(StoreUnavailable, ConfigError):
    """The store does not accept the login, or has no such database.

    Wrong input where a run begins; in the middle of one a password expired, and is waited for.
    """


class NodeUnfit(CampaignError):
    """The machine does not hold the board it claims, or the board is not empty."""

    exit_code = 3


class LeaseLost(CampaignError):
    """The attempt is no longer ours; nothing more may be written for it."""


class EngineFault(CampaignError):
    """The engine could not be loaded. `kind` is one word for the store, e.g. ``out_of_memory``."""

    def __init__(self, kind: str, message: str, *, permanent: bool = False) -> None:
        """Keep the kind beside the message; a permanent kind is not worth another load."""
        super().__init__(message)
        self.kind = kind
        self.permanent = permanent


class TaskFault(CampaignError):
    """One attempt failed. `permanent` faults are refusals: they quarantine the task at once.

    `sound` says that the engine is as it was. After any other fault it is not used again: what
    one task broke is not to fail the next.
    """

    def __init__(
        self, kind: str, message: str, *, permanent: bool = False, sound: bool = False
    ) -> None:
        """Keep the kind beside the message; who refuses leaves the engine as it was."""
        super().__init__(message)
        self.kind = kind
        self.permanent = permanent
        self.sound = sound or permanent


class InvalidMeasurement(CampaignError):
    """A gate of the void class fired; `gate` is its name, `measurement` what it judged, if any."""

    def __init__(self, gate: str, message: str, measurement: Measurement | None = None) -> None:
        """Keep the gate and the voided measurement beside the message."""
        super().__init__(message)
        self.gate = gate
        self.measurement = measurement
