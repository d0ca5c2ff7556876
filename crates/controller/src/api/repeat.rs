//! Calls that are no operations and change something, repeated with a request id: the second is answered as the first was.

use muster_common::fault::{ErrorKind, Fault};
use muster_common::time::Timestamp;
use prost::Message;

use crate::store::Connection;
use crate::store::answers::{self, Answer};
use crate::store::error::StoreError;

/// One call that may have been made before.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub caller: String,
    /// Under which id. `None`: it is not remembered.
    pub request_id: Option<String>,
    /// Tells its content from another's.
    pub digest: String,
}

impl Call {
    /// What the same call answered before. `None`: it was not made before.
    ///
    /// # Errors
    /// Where another call was made under this id.
    pub async fn before<T: Message + Default>(&self, connection: &mut Connection, now: Timestamp) -> Result<Option<T>, Fault> {
        let Some(id) = &self.request_id else { return Ok(None) };
        let Some(answer) = answers::find(connection, &self.caller, id, now).await? else { return Ok(None) };
        if answer.digest != self.digest {
            return Err(Fault::refused(ErrorKind::AlreadyExists, format!("request_id {id} was used for another request"))
                .hint("give each request an id of its own; repeat one only with the same content"));
        }
        let corrupt = |error: prost::DecodeError| StoreError::Corrupt { what: "answer", id: id.clone(), why: error.to_string() };
        Ok(Some(T::decode(answer.bytes.as_slice()).map_err(corrupt)?))
    }

    /// Remembers what it answered, in the transaction that did it.
    ///
    /// # Errors
    /// The database's.
    pub async fn remember(&self, connection: &mut Connection, answered: &impl Message, now: Timestamp) -> Result<(), Fault> {
        if let Some(id) = &self.request_id {
            let answer = Answer { digest: self.digest.clone(), bytes: answered.encode_to_vec() };
            answers::insert(connection, &self.caller, id, &answer, now).await?;
        }
        Ok(())
    }
}
