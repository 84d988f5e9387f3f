"""The ledger: the only truth about what was received, done and delivered."""

from __future__ import annotations

from dicom_node.ledger.acceptances import Acceptances
from dicom_node.ledger.arrivals import Arrivals
from dicom_node.ledger.associations import Associations
from dicom_node.ledger.breakers import Breakers
from dicom_node.ledger.commitments import Commitments
from dicom_node.ledger.consignment_proofs import ConsignmentProofs
from dicom_node.ledger.crosswalk import Crosswalk
from dicom_node.ledger.database import Database
from dicom_node.ledger.deliveries import Deliveries
from dicom_node.ledger.delivery_proofs import DeliveryProofs
from dicom_node.ledger.engines import Engines
from dicom_node.ledger.events import Events
from dicom_node.ledger.evidence import Evidence
from dicom_node.ledger.fetches import Fetches
from dicom_node.ledger.forwards import Forwards
from dicom_node.ledger.headers import Headers
from dicom_node.ledger.holdings import Holdings
from dicom_node.ledger.jobs import Jobs
from dicom_node.ledger.paces import Paces
from dicom_node.ledger.proofs import Proofs
from dicom_node.ledger.results import Results
from dicom_node.ledger.routing import Routing
from dicom_node.ledger.studies import Studies
from dicom_node.ledger.trials import Trials
from dicom_node.ledger.verdicts import Verdicts


class Ledger:
    """All parts of the ledger on one database.

    Parameters
    ----------
    url : str
        The database, in SQLAlchemy's form.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.arrivals = Arrivals(self._database)
        self.associations = Associations(self._database)
        self.studies = Studies(self._database)
        self.jobs = Jobs(self._database)
        self.results = Results(self._database)
        self.routing = Routing(self._database, self.studies, self.jobs)
        self.headers = Headers(self._database)
        self.deliveries = Deliveries(self._database)
        self.proofs = Proofs(
            DeliveryProofs(self._database, self.deliveries), ConsignmentProofs(self._database)
        )
        self.breakers = Breakers(self._database)
        self.forwards = Forwards(self._database)
        self.fetches = Fetches(self._database)
        self.events = Events(self._database)
        self.engines = Engines(self._database)
        self.holdings = Holdings(self._database)
        self.commitments = Commitments(self._database)
        self.evidence = Evidence(self._database)
        self.crosswalk = Crosswalk(self._database)
        self.verdicts = Verdicts(self._database)
        self.paces = Paces(self._database)
        self.trials = Trials(self._database)
        self.acceptances = Acceptances(self._database)

    def migrate(self) -> None:
        """Bring the schema to the newest version; by the supervisor, before its children."""
        self._database.migrate()

    def require_current(self) -> None:
        """Raise ConfigError unless the schema is there in the newest version."""
        self._database.require_current()

    def close(self) -> None:
        self._database.close()
