"""What destinations say that they have of originals, read instance by instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from dicom_node.claims import Claim, Forwarded
from dicom_node.ledger import schema
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Instance

_INSTANCE = [field.name for field in fields(Instance)]


def read_claims(connection: Connection, numbers: Sequence[int]) -> list[Claim]:
    """Return a claim for each instance of these consignments, the oldest first."""
    c, f = schema.consignments, schema.forwards
    o, i = schema.forwarded_instances, schema.instances
    query = (
        select(
            c,
            f.c.study_instance_uid.label("study"),
            f.c.profile,
            o.c.digest.label("chosen"),
            o.c.sent_as,
            o.c.resends,
            *[i.c[name].label(f"instance_{name}") for name in _INSTANCE],
        )
        .join(f, f.c.forward_id == c.c.forward_id)
        .join(o, o.c.consignment_id == c.c.consignment_id)
        .join(
            i,
            and_(
                i.c.study_instance_uid == f.c.study_instance_uid,
                i.c.series_instance_uid == o.c.series_instance_uid,
                i.c.sop_instance_uid == o.c.sop_instance_uid,
            ),
        )
        .where(c.c.consignment_id.in_(numbers))
        .order_by(*(c.c.sent_at, c.c.consignment_id, o.c.series_instance_uid, o.c.sop_instance_uid))
    )
    return [_claim(row) for row in connection.execute(query)]


def _claim(row: Row[Any]) -> Claim:
    instance = Instance(**{name: row._mapping[f"instance_{name}"] for name in _INSTANCE})
    as_it_came = (row.study, instance.series_instance_uid, instance.sop_instance_uid)
    study, series, sop = row.sent_as or as_it_came
    return Claim(
        number=row.consignment_id,
        attempt=0,
        destination=row.destination,
        sent=Forwarded(instance, row.chosen, row.profile, study, series, sop),
        state=DeliveryState(row.state),
        failures=row.failures,
        reason=row.reason,
        sent_at=row.sent_at,
        resends=row.resends,
        transaction_uid=row.transaction_uid,
        committed=row.committed,
    )
