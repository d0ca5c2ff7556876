//! Faults of machines and disks, and what is gone with them.

use muster_failover::look::Server;

use crate::world::{Image, Keeper, World};

impl World {
    /// What only the disk held that was set back, is gone with it: from here on what anybody holds counts.
    pub fn forget_with(&mut self, at: usize) {
        let most = self.keepers.iter().map(Keeper::at).fold(self.keepers[at].at(), |most, own| if own.covers(&most) { own } else { most });
        if !most.covers(&self.acknowledged) {
            self.acknowledged = most;
        }
    }
}

impl Keeper {
    pub fn power_off(&mut self) {
        self.on = false;
        self.server = Server::Stopped;
        self.permit = None;
        self.starting = false;
        self.locked = false;
        self.question = None;
    }

    /// A start that has read its configuration takes the lock, or dies at it.
    pub fn runs(&mut self, past_the_lock: bool) {
        self.starting = false;
        if (self.locked && !past_the_lock) || self.server != Server::Stopped {
            return;
        }
        self.server = if self.standby { Server::ReadOnly } else { Server::ReadWrite };
    }

    pub fn snapshot(&mut self) {
        let (control, position, standby, inbox) = (self.control.clone(), self.position.clone(), self.standby, self.inbox.clone());
        self.image = Some(Box::new(Image { control, position, standby, inbox }));
    }

    pub fn roll_back(&mut self) {
        let Some(image) = self.image.take() else { return };
        self.power_off();
        let Image { control, position, standby, inbox } = *image;
        (self.control, self.position, self.standby, self.inbox) = (control, position, standby, inbox);
    }
}
